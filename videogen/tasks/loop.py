"""A film without an end: its last frame is followed by its first."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from videogen.tasks import TASKS, Request, Sample
from videogen.tasks._shared import TaskBase, pasted, placed


@TASKS.register("loop")
@dataclasses.dataclass(kw_only=True, eq=False)
class Loop(TaskBase):
    """`video=`, or a first sample, and a second one that leads from its last frame back to its first.

    One latent frame is known at each end of the way back. If its motion is that of the film, the last one holds the
    first frames of the film, which it leads up to; if the motion turns, it holds them in reverse.

    Args:
        back: the sentence of the way back, of a film whose motion has to turn; empty for that of the film.
    """

    back: str = ""

    @property
    def takes(self) -> frozenset[str]:
        """A film to close, or images of its first sample."""
        return frozenset({"video", "image"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, T, H, W), whose first frame isn't repeated at the end.

        Raises:
            ValueError: a film and images, a film shorter than a latent frame, or samples too short to lie between two.
        """
        if request.video is not None and request.image is not None:
            raise ValueError("a film to close and images of its first frames: give one of the two")
        stride, frames = request.spec.temporal_stride, request.num_frames
        ahead = 1 if request.spec.first_frame_alone else stride
        if frames <= ahead + stride:
            raise ValueError(f"num_frames={frames}: the way back takes more than {ahead + stride}")
        film = sample(request.num_frames, known=request.image) if request.video is None else request.video
        if film.shape[2] < stride:
            raise ValueError(f"the film has {film.shape[2]} frames: the way back leads to the first {stride} of it")
        end, start = film[:, :, -ahead:], film[:, :, :stride]
        if not self.back:
            known = placed(frames, {0: end, frames - stride: start})
            return torch.cat([film, sample(frames, known=known)[:, :, ahead:-stride]], dim=2)
        known = placed(frames, {0: end.flip(2), frames - stride: start.flip(2)})
        made = pasted(sample(frames, known=known, prompts=[self.back] * len(request.prompts)), known)
        return torch.cat([film, made[:, :, 1:-1]], dim=2)

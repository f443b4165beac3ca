"""A film without an end: its last frame is followed by its first."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from videogen.tasks import TASKS, Known, Request, Sample
from videogen.tasks._shared import TaskBase, pasted, placed, some_film


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
        spec, frames = request.spec, request.num_frames
        ahead, behind = (len(spec.frames_of(place)) for place in (0, spec.latent_place(frames - 1)))
        if frames <= ahead + behind:
            raise ValueError(f"num_frames={frames}: the way back takes more than {ahead + behind}")
        if request.video is not None and request.video.shape[2] < behind:
            raise ValueError(
                f"the film has {request.video.shape[2]} frames: the way back leads to the first {behind} of it"
            )
        sample.check(frames, self._ends(some_film(request), frames, ahead, behind))
        film = sample(frames, known=request.image) if request.video is None else request.video
        known = self._ends(film, frames, ahead, behind)
        if not self.back:
            return torch.cat([film, sample(frames, known=known)[:, :, ahead:-behind]], dim=2)
        made = pasted(sample(frames, known=known, prompts=[self.back] * len(request.prompts)), known)
        return torch.cat([film, made[:, :, 1:-1]], dim=2)

    def _ends(self, film: Tensor, frames: int, ahead: int, behind: int) -> Known:
        """The film's last frames and its first ones as the first and the last of the way back."""
        end, start = film[:, :, -ahead:], film[:, :, :behind]
        if self.back:
            end, start = end.flip(2), start.flip(2)
        return placed(frames, {0: end, frames - behind: start})

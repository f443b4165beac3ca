"""A film without an end: its last frame is followed by its first."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from videogen.tasks import TASKS, Request, Sample
from videogen.tasks._shared import TaskBase, placed


@TASKS.register("loop")
@dataclasses.dataclass(kw_only=True, eq=False)
class Loop(TaskBase):
    """`video=`, or a first sample, and a second one that leads from its last frame back to its first.

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
            ValueError: a film and images, or samples too short to lie between two frames.
        """
        if request.video is not None and request.image is not None:
            raise ValueError("a film to close and images of its first frames: give one of the two")
        if request.num_frames < 3:
            raise ValueError(f"num_frames={request.num_frames}: the way back takes at least 3")
        film = sample(request.num_frames, known=request.image) if request.video is None else request.video
        ends = {0: film[:, :, -1:], request.num_frames - 1: film[:, :, :1]}
        prompts = [self.back] * len(request.prompts) if self.back else None
        made = sample(request.num_frames, known=placed(request.num_frames, ends), prompts=prompts)
        return torch.cat([film, made[:, :, 1:-1]], dim=2)

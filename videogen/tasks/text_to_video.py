"""From sentences alone; and from images too, for a model that takes some."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from videogen.tasks import TASKS, Request, Sample
from videogen.tasks._shared import TaskBase


@TASKS.register("text_to_video", aliases=("t2v",))
@dataclasses.dataclass(kw_only=True, eq=False)
class TextToVideo(TaskBase):
    """One sample a sentence, `num_frames` long, with the images that are given as its frames."""

    @property
    def takes(self) -> frozenset[str]:
        """Images, which are optional."""
        return frozenset({"image"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, T, H, W)."""
        return sample(request.num_frames, known=request.image)

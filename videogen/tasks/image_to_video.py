"""Images that come to life: given frames of a film, first, last or any."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from videogen.tasks import TASKS, Request, Sample
from videogen.tasks._shared import TaskBase


@TASKS.register("image_to_video", aliases=("i2v",))
@dataclasses.dataclass(kw_only=True, eq=False)
class ImageToVideo(TaskBase):
    """One sample, `num_frames` long, of which some frames are given: `image=`, `last_image=`, or any."""

    @property
    def needs(self) -> frozenset[str]:
        """At least one image."""
        return frozenset({"image"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, T, H, W)."""
        return sample(request.num_frames, known=request.image)

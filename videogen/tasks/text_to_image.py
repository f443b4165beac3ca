"""Still images: films of one frame."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from videogen.tasks import TASKS, Request, Sample
from videogen.tasks._shared import TaskBase


@TASKS.register("text_to_image", aliases=("t2i",))
@dataclasses.dataclass(kw_only=True, eq=False)
class TextToImage(TaskBase):
    """One frame a sentence, for a model whose VAE gives the first frame a latent of its own."""

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The images (B, 3, 1, H, W).

        Raises:
            ValueError: a VAE that takes no single frame.
        """
        if not request.spec.first_frame_alone and request.spec.temporal_stride > 1:
            raise ValueError(
                f"this model's VAE takes {request.spec.temporal_stride} frames at once and no single image: choose a "
                "model whose first frame stands alone, or take a frame of a film"
            )
        return sample(1)

"""No image encoder: what stands in models that read no image tokens."""

from __future__ import annotations

from torch import Tensor, nn

from videogen.vision import VISION


@VISION.register("none")
class NoImage(nn.Module):
    """No image tokens; a model may be given the latents of images all the same."""

    num_images = 0
    dim = 0

    def encode(self, images: Tensor) -> Tensor:
        """ValueError: there is nothing here that encodes."""
        raise ValueError("vision=none encodes no image: choose vision=clip or another encoder")

    def null(self, images: Tensor) -> None:
        """None: nothing is encoded."""

"""Image condition encoders: the contract that all of them keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class ImageEncoder(Protocol):
    """From images to tokens that a denoiser attends to beside the text."""

    #: how many images of a film its tokens are of; 0 for the one that stands for no encoder
    num_images: int

    @property
    def dim(self) -> int:
        """Width D of the tokens."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, num_images, 3, H, W) in [-1, 1], of any size -> tokens (B, L, D), image after image."""
        ...

    def null(self, images: Tensor) -> Tensor | None:
        """Tokens of "no image" beside "no text", for classifier-free guidance, of the same shape as those of `images`.

        None for a model that sees the image on both sides of guidance.
        """
        ...


VISION: Registry[Any] = Registry("vision", "videogen.vision")

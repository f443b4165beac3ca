"""The vision tower of CLIP: a token for each patch of an image, as Wan's image-to-video models read them."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.vision import VISION
from videogen.vision._pixels import Resize, clip_pixels
from videogen.vision._tower import Activation, VisionTower


@VISION.register("clip")
class CLIPVision(nn.Module):
    """Hidden states of the vision tower of CLIP or OpenCLIP (https://arxiv.org/abs/2103.00020); as built, ViT-H/14.

    Args:
        image_size: side of the square that an image is brought to, in pixels.
        patch_size: side of a patch, in pixels.
        width: of the tokens.
        depth: layers.
        num_heads: attention heads.
        hidden: width inside the MLPs.
        activation: gelu (OpenCLIP's) or quick_gelu (OpenAI's).
        num_layers: layers behind which the tokens are taken; 0 for all, 31 for the penultimate of ViT-H.
        resize: how an image is brought to that size, see `clip_pixels`.
        num_images: images of a film that it reads, its first frame first; 2 for Wan's first and last frame.

    Raises:
        ValueError: sizes that don't divide, more layers than there are, or no image.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 14,
        width: int = 1280,
        depth: int = 32,
        num_heads: int = 16,
        hidden: int = 5120,
        activation: Activation = "gelu",
        num_layers: int = 0,
        resize: Resize = "crop",
        num_images: int = 1,
    ) -> None:
        super().__init__()
        if not 0 <= num_layers <= depth:
            raise ValueError(f"num_layers={num_layers}: the tower has depth={depth}")
        if num_images < 1:
            raise ValueError(f"num_images={num_images}: at least 1; for a model without image tokens use vision=none")
        self.image_size, self.resize, self.num_images = image_size, resize, num_images
        self.dim, self.num_layers = width, num_layers or depth
        self.tower = VisionTower(image_size, patch_size, width, depth, num_heads, hidden, activation)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "b n 3 h w"]) -> Float[Tensor, "b l d"]:
        """Images (B, N, 3, H, W) in [-1, 1] -> tokens (B, N * L, D), image after image."""
        weight = self.tower.patches.weight
        pixels = clip_pixels(images.flatten(0, 1).float(), self.image_size, self.resize).to(weight)
        tokens: Tensor = self.tower(pixels, self.num_layers)
        return rearrange(tokens, "(b n) l d -> b (n l) d", n=images.shape[1])

    def null(self, images: Tensor) -> None:
        """None: both sides of guidance see the image."""

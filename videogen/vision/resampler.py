"""CLIP's vision tower and learned queries that sum it up, as VideoCrafter's and DynamiCrafter's U-Nets read images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.vision import VISION
from videogen.vision._pixels import Resize, clip_pixels
from videogen.vision._resampler import Resampler
from videogen.vision._tower import Activation, VisionTower


@VISION.register("resampler")
class ResampledCLIP(nn.Module):
    """A few tokens for what CLIP's vision tower sees, https://arxiv.org/abs/2310.19512, section 3.2.

    As built, it is VideoCrafter1's.

    Args:
        image_size: side of the square that an image is brought to, in pixels.
        patch_size: side of a patch, in pixels.
        width: of the tower's tokens.
        depth: layers of the tower.
        num_heads: attention heads of the tower.
        hidden: width inside the tower's MLPs.
        activation: gelu (OpenCLIP's) or quick_gelu (OpenAI's).
        resize: how an image is brought to that size, see `clip_pixels`.
        dim: width of the tokens that come out.
        num_queries: how many come out; DynamiCrafter has 16 for each of 16 frames.
        inner_dim: width of the queries.
        inner_depth: layers of the resampler.
        inner_heads: its attention heads.
        inner_head_dim: width of one of these.

    Raises:
        ValueError: sizes that don't divide.
    """

    num_images = 1

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
        resize: Resize = "blur",
        dim: int = 1024,
        num_queries: int = 16,
        inner_dim: int = 1024,
        inner_depth: int = 4,
        inner_heads: int = 12,
        inner_head_dim: int = 64,
    ) -> None:
        super().__init__()
        self.image_size, self.resize, self.depth, self.dim = image_size, resize, depth, dim
        self.tower = VisionTower(image_size, patch_size, width, depth, num_heads, hidden, activation)
        self.resampler = Resampler(width, dim, inner_dim, inner_depth, inner_heads, inner_head_dim, num_queries)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "b 1 3 h w"]) -> Float[Tensor, "b q d"]:
        """Images (B, 1, 3, H, W) in [-1, 1] -> tokens (B, num_queries, dim)."""
        weight = self.tower.patches.weight
        pixels = clip_pixels(images[:, 0].float(), self.image_size, self.resize).to(weight)
        out: Tensor = self.resampler(self.tower(pixels, self.depth))
        return out

    def null(self, images: Float[Tensor, "b 1 3 h w"]) -> Float[Tensor, "b q d"]:
        """The tokens of gray images."""
        return self.encode(torch.zeros_like(images))

"""Image tokens beside the text: from an image encoder's width to the model's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.initial import linear


class ImageEmbedding(nn.Module):
    """LayerNorm, two linear layers around a GELU, LayerNorm: Wan's, https://arxiv.org/abs/2503.20314, section 5.1.

    Args:
        image_dim: width of the image encoder's tokens.
        dim: width of the model's.
        positions: how many tokens there always are, if each has a learned code of its own; 0 for none.
    """

    def __init__(self, image_dim: int, dim: int, positions: int = 0) -> None:
        super().__init__()
        self.image_dim, self.count = image_dim, positions or None
        self.positions = nn.Parameter(torch.zeros(positions, image_dim)) if positions else None
        self.layers = nn.Sequential(
            nn.LayerNorm(image_dim), linear(image_dim, image_dim), nn.GELU(), linear(image_dim, dim), nn.LayerNorm(dim)
        )

    def forward(self, image: Float[Tensor, "b l image_dim"]) -> Float[Tensor, "b l d"]:
        """(B, L, image_dim) -> (B, L, D)."""
        embedded: Tensor = self.layers(image if self.positions is None else image + self.positions)
        return embedded


def check_readers(blocks: nn.Module, image_dim: int, image_positions: int) -> None:
    """Raise ValueError unless a model with image tokens has blocks that read them, and one without has none."""
    if image_positions and not image_dim:
        raise ValueError(f"image_positions={image_positions} are of image tokens: set image_dim, or leave them out")
    readers = any(getattr(module, "reads_image", False) for module in blocks.modules())
    if image_dim and not readers:
        raise ValueError(f"image_dim={image_dim}, and no block reads image tokens: use dit.cross=decoupled")
    if readers and not image_dim:
        raise ValueError("the blocks read image tokens and image_dim=0 embeds none: set it to their encoder's width")

"""Image tokens through an MLP between two norms."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.image_tokens import IMAGE_TOKENS
from videogen.dit.initial import linear
from videogen.dit.memo import remembered


@IMAGE_TOKENS.register("mlp")
class MLPImageTokens(nn.Module):
    """LayerNorm, two linear layers around a GELU, LayerNorm: Wan's, https://arxiv.org/abs/2503.20314, section 5.1.

    Args:
        dim: width of the model's tokens.
        image_dim: width of the image encoder's, 1280 for CLIP's ViT-H.
        positions: how many tokens there always are, if each has a learned code of its own; 0 for none.
    """

    conditions: ClassVar[frozenset[str]] = frozenset({"image"})
    required: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(self, dim: int, *, image_dim: int = 1280, positions: int = 0) -> None:
        super().__init__()
        self.image_dim, self.count = image_dim, positions or None
        self.positions = nn.Parameter(torch.zeros(positions, image_dim)) if positions else None
        self.layers = nn.Sequential(
            nn.LayerNorm(image_dim), linear(image_dim, image_dim), nn.GELU(), linear(image_dim, dim), nn.LayerNorm(dim)
        )

    def forward(self, condition: Condition) -> Float[Tensor, "b l d"] | None:
        """(B, L, image_dim) -> (B, L, D).

        Raises:
            ValueError: tokens of another number or width, or without the text that they stand beside.
        """
        image = condition.image
        if image is None:
            return None
        if condition.text is None:
            raise ValueError("condition.image is read beside condition.text: give the empty sentence's tokens for none")
        condition.require_shape("image", (len(condition.text), self.count, self.image_dim))
        coded = image if self.positions is None else image + self.positions
        weight: Tensor = self.layers.get_parameter("1.weight")
        embedded: Tensor = remembered(condition.memo(), self, weight, lambda: self.layers(coded))
        return embedded


def check_readers(blocks: nn.Module, image_dim: int) -> None:
    """Raise ValueError unless a model with image tokens has blocks that read them, and one without has none."""
    readers = any(getattr(module, "reads_image", False) for module in blocks.modules())
    if image_dim and not readers:
        raise ValueError("dit.image_tokens=mlp, and no block reads image tokens: use dit.cross=decoupled")
    if readers and not image_dim:
        raise ValueError("the blocks read image tokens and dit.image_tokens=none gives none: use dit.image_tokens=mlp")

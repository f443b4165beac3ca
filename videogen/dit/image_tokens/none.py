"""No image tokens."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from videogen.denoiser import Condition
from videogen.dit.image_tokens import IMAGE_TOKENS


@IMAGE_TOKENS.register("none")
class NoImageTokens(nn.Module):
    """For a model that reads text alone."""

    conditions: ClassVar[frozenset[str]] = frozenset()
    image_dim: ClassVar[int] = 0
    count: ClassVar[int | None] = None

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, condition: Condition) -> None:
        """None."""

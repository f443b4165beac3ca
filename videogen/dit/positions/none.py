"""No positions: tokens are a set, but for what causal masks and patterns of attention tell."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.positions import POSITIONS


@POSITIONS.register("none")
class NoPosition(nn.Module):
    """Neither codes nor rotations, for ablations and for models that bring positions otherwise."""

    conditions: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()

    def add(
        self, tokens: Float[Tensor, "b n d"], grid: tuple[int, int, int], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n d"]:
        """The tokens."""
        return tokens

    def rotary(self, grid: tuple[int, int, int], device: torch.device, fps: Tensor | None = None) -> None:
        """None."""

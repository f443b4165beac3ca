"""No pooled text."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from videogen.denoiser import Condition
from videogen.dit.pools import POOLS
from videogen.kernels import Attention


@POOLS.register("none")
class NoPool(nn.Module):
    """The text reaches the blocks as tokens alone: Latte, Wan, CogVideoX, LTX-Video and others.

    Args:
        text_dim: of no use here.
        pooled_dim: of no use here.
        dim: of no use here.
    """

    conditions: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, text_dim: int, pooled_dim: int, dim: int) -> None:
        super().__init__()

    def forward(self, condition: Condition, kernel: Attention) -> None:
        """None."""

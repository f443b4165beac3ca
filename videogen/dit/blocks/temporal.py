"""Temporal attention: tokens attend along time at their own place; the other half of a factorized pair."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import Temporal


@BLOCKS.register("temporal")
class TemporalBlock(PatternBlock):
    """Self-attention along time at each position, MLP: every other layer of Latte (variant 1).

    https://arxiv.org/abs/2401.03048, section 3.2.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        text: whether it reads the text; STDiT3's does, Latte's doesn't.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit, *, text: bool = True) -> None:
        super().__init__(dim, num_heads, kit, Temporal(), text)

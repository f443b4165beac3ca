"""Spatial attention: tokens attend within their frame; the half of a factorized pair that reads the text."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import Spatial


@BLOCKS.register("spatial")
class SpatialBlock(PatternBlock):
    """Self-attention within each frame, attention to the text, MLP: every other layer of Latte (variant 1).

    https://arxiv.org/abs/2401.03048, section 3.2.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        text: whether it reads the text.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit, *, text: bool = True) -> None:
        super().__init__(dim, num_heads, kit, Spatial(), text)

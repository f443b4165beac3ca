"""Windowed attention: tokens attend within boxes of the grid, which every other layer may shift."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import Window


@BLOCKS.register("windowed")
class WindowedBlock(PatternBlock):
    """Self-attention within boxes of tokens, attention to the text, MLP: Video Swin, https://arxiv.org/abs/2106.13230.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        window: tokens of a box along (t, y, x); 0 is the whole axis.
        shifted: start the boxes half their size before the grid.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kit: Kit,
        *,
        window: tuple[int, int, int] = (0, 8, 8),
        shifted: bool = False,
    ) -> None:
        if min(window) < 0:
            raise ValueError(f"window {window} counts tokens: 1 or more, or 0 for a whole axis")
        t, h, w = (size // 2 if shifted else 0 for size in window)
        super().__init__(dim, num_heads, kit, Window(window, (t, h, w)))

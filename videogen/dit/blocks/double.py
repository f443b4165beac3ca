"""Two streams with layers of their own that meet in attention alone: MM-DiT's block."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.patterns import Full
from videogen.dit.streams import TwoStreams


@BLOCKS.register("double")
class DoubleBlock(TwoStreams):
    """Every token attends to every other and to the text, and the text to both; two modulations, two MLPs.

    MM-DiT, https://arxiv.org/abs/2403.03206, figure 2b; HunyuanVideo's and Open-Sora 2.0's first layers. With a text of
    another width than the tokens it is Mochi's asymmetric one.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        last: the text is read and left as it is, since no layer behind this one asks for it.
        spare: a last block has a whole modulation of the text all the same, as Open-Sora-Plan 1.5's.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit, *, last: bool = False, spare: bool = False) -> None:
        super().__init__(dim, num_heads, kit, Full(), last, spare)

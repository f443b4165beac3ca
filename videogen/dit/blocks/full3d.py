"""Full attention: every token of the video attends to every other."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import Full


@BLOCKS.register("full3d")
class Full3DBlock(PatternBlock):
    """Self-attention over all T * H * W tokens, attention to the text, MLP.

    DiT's block (https://arxiv.org/abs/2212.09748, figure 3) with PixArt's text attention in the middle.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit) -> None:
        super().__init__(dim, num_heads, kit, Full())

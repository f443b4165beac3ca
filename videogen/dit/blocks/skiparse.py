"""Skip-sparse attention: every k-th token, or runs of k tokens, attend to each other; Open-Sora-Plan 1.3's."""

from __future__ import annotations

from typing import Literal

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import SkipGroup, SkipSingle


@BLOCKS.register("skiparse")
class SkiparseBlock(PatternBlock):
    """Self-attention over a k-th of the tokens, attention to the text, MLP; layers of both modes alternate.

    After a single and a group skip every token has seen every other, https://arxiv.org/abs/2412.00131, section 3.2.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        mode: "single" takes every k-th token, "group" runs of k tokens, one run of every k.
        k: into how many sequences the tokens are split.
        over_padding: count the tokens of a padded batch with their padding, as Open-Sora-Plan does; otherwise each
            clip is counted from its own first token, and padding changes nothing.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kit: Kit,
        *,
        mode: Literal["single", "group"] = "single",
        k: int = 4,
        over_padding: bool = False,
    ) -> None:
        if k < 1:
            raise ValueError(f"k={k} splits the tokens into so many sequences: at least 1")
        pattern = SkipSingle(k, over_padding=over_padding) if mode == "single" else SkipGroup(k, over_padding)
        super().__init__(dim, num_heads, kit, pattern)

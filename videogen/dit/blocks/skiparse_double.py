"""Two streams under skip-sparse attention: each of k sequences of tokens sees the text; Open-Sora-Plan 1.5's."""

from __future__ import annotations

from typing import Literal

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.patterns import SkipGroup, SkipSingle
from videogen.dit.streams import TwoStreams


@BLOCKS.register("skiparse_double")
class SkiparseDoubleBlock(TwoStreams):
    """A k-th of the tokens attend to each other and to the text, which takes part in all k sequences: its mean counts.

    The blocks of Open-Sora-Plan 1.5's SUV (https://github.com/PKU-YuanGroup/Open-Sora-Plan, v1.5.0), with the skips of
    https://arxiv.org/abs/2412.00131, section 3.2.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        mode: "single" takes every k-th token, "group" runs of k tokens, one run of every k.
        k: into how many sequences the tokens are split.
        over_padding: count the tokens of a padded batch with their padding, as Open-Sora-Plan does.
        last: the text is read and left as it is, since no layer behind this one asks for it.
        spare: a last block has a whole modulation of the text all the same.
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
        last: bool = False,
        spare: bool = False,
    ) -> None:
        if k < 1:
            raise ValueError(f"k={k} splits the tokens into so many sequences: at least 1")
        pattern = SkipSingle(k, over_padding=over_padding) if mode == "single" else SkipGroup(k, over_padding)
        super().__init__(dim, num_heads, kit, pattern, last, spare)

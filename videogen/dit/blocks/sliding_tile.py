"""Sliding-tile attention: tokens attend to the tiles around their own."""

from __future__ import annotations

from videogen.dit.blocks import BLOCKS, Kit
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import SlidingTile


@BLOCKS.register("sliding_tile")
class SlidingTileBlock(PatternBlock):
    """Self-attention to the tiles around a token's own, attention to the text, MLP.

    Sliding Tile Attention, https://arxiv.org/abs/2502.04507.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        tile: tokens of a tile along (t, y, x).
        reach: tiles that are seen to either side.
    """

    needs_mask = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kit: Kit,
        *,
        tile: tuple[int, int, int] = (4, 4, 4),
        reach: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        if min(tile) < 1 or min(reach) < 0:
            raise ValueError(f"tile {tile} and reach {reach}: a tile has 1 token or more, a reach is 0 or more")
        super().__init__(dim, num_heads, kit, SlidingTile(tile, reach))

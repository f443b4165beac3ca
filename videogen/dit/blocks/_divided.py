"""The block whose attention is divided into one within frames and one along time, for all that have one of its kind."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BlockCondition, Kit
from videogen.dit.branch import onwards
from videogen.dit.fusible import Fusible
from videogen.dit.layers import SelfAttention
from videogen.dit.patterns import Spatial, Temporal


class DividedBlock(Fusible):
    """Spatial attention, temporal attention, attention to the text, MLP, each of the three but the text modulated.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
    """

    #: the layer along time
    along_time: ClassVar[type[SelfAttention]] = SelfAttention

    def __init__(self, dim: int, num_heads: int, kit: Kit) -> None:
        super().__init__()
        self.modulation = kit.modulation(dim, 3)
        self.spatial = SelfAttention(dim, num_heads, kit, Spatial())
        self.temporal = self.along_time(dim, num_heads, kit, Temporal())
        self.cross = kit.cross(dim, num_heads, kit)
        self.mlp = kit.mlp(dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l d"] | None]:
        """(B, N, D) -> (B, N, D) with N = T * H * W; the text stays as it is."""
        space, time, feed = self.modulation(condition)
        tokens, seen = onwards(self.ops, tokens, self.spatial(space.enter(tokens), condition), space, time)
        out, left = self.temporal(seen, condition), time
        if text is not None:
            tokens = time.leave(tokens, out)
            out, left = self.cross(tokens, text, condition), None
        tokens, seen = onwards(self.ops, tokens, out, left, feed)
        return feed.leave(tokens, self.mlp(seen)), text

"""Open-Sora 1.1's block: as factorized, but that along time queries and keys are turned before they are normalised."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BLOCKS, BlockCondition, Kit
from videogen.dit.branch import onwards
from videogen.dit.fusible import Fusible
from videogen.dit.layers import SelfAttention
from videogen.dit.patterns import Spatial, Temporal


@BLOCKS.register("stdit2")
class STDiT2Block(Fusible):
    """Spatial attention, temporal attention, attention to the text, MLP: STDiT2, https://arxiv.org/abs/2412.20404.

    The order of turning and normalising matters, since the norm weighs each channel by itself; the other one is that of
    `factorized`, which is the same block otherwise.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit) -> None:
        super().__init__()
        self.modulation = kit.modulation(dim, 3)
        self.spatial = SelfAttention(dim, num_heads, kit, Spatial())
        self.temporal = TurnedFirst(dim, num_heads, kit, Temporal())
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


class TurnedFirst(SelfAttention):
    """Multi-head attention whose queries and keys are turned by their positions, then normalised."""

    def forward(self, tokens: Float[Tensor, "b n d"], condition: BlockCondition) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D); no token attends to one that isn't valid."""
        heads = "b n (three heads c) -> three b n heads c"
        q, k, v = rearrange(self.qkv(tokens), heads, three=3, heads=self.num_heads).unbind(0)
        if condition.rotary is not None:
            q, k = condition.rotary.turn(q), condition.rotary.turn(k)
        q, k = self.norm_q(q), self.norm_k(k)
        attended = self.pattern.attend(self.kernel, q, k, v, condition.grid, condition.valid)
        out: Tensor = self.out(attended.flatten(2))
        return out

"""Open-Sora 1.1's block: as factorized, but that along time queries and keys are turned before they are normalised."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.blocks._divided import DividedBlock
from videogen.dit.layers import SelfAttention


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


@BLOCKS.register("stdit2")
class STDiT2Block(DividedBlock):
    """Spatial attention, temporal attention, attention to the text, MLP: STDiT2, https://arxiv.org/abs/2412.20404.

    The order of turning and normalising matters, since the norm weighs each channel by itself; the other one is that of
    `factorized`, which is the same block otherwise.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
    """

    along_time = TurnedFirst

"""Factorized attention: first within each frame, then along time at each position."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.layers import MLP, CrossAttention, Modulation, SelfAttention
from videogen.kernels import Attention


@BLOCKS.register("factorized")
class FactorizedBlock(nn.Module):
    """Spatial attention, temporal attention, cross-attention to the text, MLP; adaLN-Zero modulation.

    Divided space-time attention, https://arxiv.org/abs/2102.05095; in a DiT, Latte's variant 3 (https://arxiv.org/abs/2401.03048).

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        attention: the kernel that all attention of this block runs on.
        mlp_ratio: hidden width of the MLP as a multiple of dim.
        qk_norm: RMSNorm on queries and keys.
    """

    def __init__(
        self, dim: int, num_heads: int, attention: Attention, *, mlp_ratio: float = 4.0, qk_norm: bool = True
    ) -> None:
        super().__init__()
        self.modulation = Modulation(dim, branches=3)
        self.spatial = SelfAttention(dim, num_heads, attention, qk_norm)
        self.temporal = SelfAttention(dim, num_heads, attention, qk_norm)
        self.cross = CrossAttention(dim, num_heads, attention, qk_norm)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(self, tokens: Float[Tensor, "b n d"], condition: BlockCondition) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D) with N = T * H * W."""
        space, time, feed = self.modulation(condition)
        tokens = space.leave(tokens, self._within_frames(space.enter(tokens), condition))
        tokens = time.leave(tokens, self._along_time(time.enter(tokens), condition))
        if condition.text is not None:
            tokens = tokens + self.cross(tokens, condition.text, condition.text_mask)
        out: Tensor = feed.leave(tokens, self.mlp(feed.enter(tokens)))
        return out

    def _within_frames(self, tokens: Tensor, condition: BlockCondition) -> Tensor:
        t, area = condition.grid[0], condition.grid[1] * condition.grid[2]
        valid = None if condition.valid is None else rearrange(condition.valid, "b (t s) -> (b t) s", t=t)
        # all tokens of a frame share the angle of time, which cancels in q k: the first frame's angles serve all
        rotary = None if condition.rotary is None else (condition.rotary[0][:area], condition.rotary[1][:area])
        out: Tensor = self.spatial(rearrange(tokens, "b (t s) d -> (b t) s d", t=t), rotary, valid)
        return rearrange(out, "(b t) s d -> b (t s) d", t=t)

    def _along_time(self, tokens: Tensor, condition: BlockCondition) -> Tensor:
        t, area = condition.grid[0], condition.grid[1] * condition.grid[2]
        valid = None if condition.valid is None else rearrange(condition.valid, "b (t s) -> (b s) t", t=t)
        # likewise every position has the angles of the first one, up to what cancels
        rotary = None if condition.rotary is None else (condition.rotary[0][::area], condition.rotary[1][::area])
        out: Tensor = self.temporal(rearrange(tokens, "b (t s) d -> (b s) t d", t=t), rotary, valid)
        return rearrange(out, "(b s) t d -> b (t s) d", s=area)

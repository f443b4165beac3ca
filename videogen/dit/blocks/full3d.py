"""Full attention: every token of the video attends to every other."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.layers import MLP, CrossAttention, Modulation, SelfAttention
from videogen.kernels import Attention


@BLOCKS.register("full3d")
class Full3DBlock(nn.Module):
    """Self-attention over all T * H * W tokens, cross-attention to the text, MLP; adaLN-Zero modulation.

    DiT's block (https://arxiv.org/abs/2212.09748, figure 3) with PixArt's text attention in the middle.

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
        self.modulation = Modulation(dim, branches=2)
        self.attention = SelfAttention(dim, num_heads, attention, qk_norm)
        self.cross = CrossAttention(dim, num_heads, attention, qk_norm)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(self, tokens: Float[Tensor, "b n d"], condition: BlockCondition) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D) with N = T * H * W."""
        attend, feed = self.modulation(condition)
        tokens = attend.leave(tokens, self.attention(attend.enter(tokens), condition.rotary, condition.valid))
        if condition.text is not None:
            tokens = tokens + self.cross(tokens, condition.text, condition.text_mask)
        out: Tensor = feed.leave(tokens, self.mlp(feed.enter(tokens)))
        return out

"""Parallel attention and MLP: both read the same normalised tokens, and one gate adds both."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.layers import MLP, CrossAttention, Modulation, SelfAttention
from videogen.kernels import Attention


@BLOCKS.register("parallel")
class ParallelBlock(nn.Module):
    """Attention over all T * H * W tokens beside the MLP, then cross-attention to the text; adaLN-Zero modulation.

    ViT-22B (https://arxiv.org/abs/2302.05442, section 2.1), after GPT-J: one normalisation and one modulation serve
    both branches, and neither waits for the other.

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
        self.modulation = Modulation(dim, branches=1)
        self.attention = SelfAttention(dim, num_heads, attention, qk_norm)
        self.mlp = MLP(dim, mlp_ratio)
        self.cross = CrossAttention(dim, num_heads, attention, qk_norm)

    def forward(self, tokens: Float[Tensor, "b n d"], condition: BlockCondition) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D) with N = T * H * W."""
        (branch,) = self.modulation(condition)
        h = branch.enter(tokens)
        tokens = branch.leave(tokens, self.attention(h, condition.rotary, condition.valid) + self.mlp(h))
        if condition.text is not None:
            tokens = tokens + self.cross(tokens, condition.text, condition.text_mask)
        return tokens

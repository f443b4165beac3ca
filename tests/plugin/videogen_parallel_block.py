"""Parallel attention and MLP: both read the same normalised tokens, and one gate adds both."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition, Kit
from videogen.dit.layers import SelfAttention
from videogen.dit.patterns import Full


@BLOCKS.register("parallel")
class ParallelBlock(nn.Module):
    """Attention over all T * H * W tokens beside the MLP, then attention to the text.

    ViT-22B (https://arxiv.org/abs/2302.05442, section 2.1), after GPT-J: one normalisation and one modulation serve
    both branches, and neither waits for the other.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit) -> None:
        super().__init__()
        self.modulation = kit.modulation(dim, 1)
        self.attention = SelfAttention(dim, num_heads, kit, Full())
        self.mlp = kit.mlp(dim)
        self.cross = kit.cross(dim, num_heads, kit)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l d"] | None]:
        """(B, N, D) -> (B, N, D) with N = T * H * W; the text stays as it is."""
        (branch,) = self.modulation(condition)
        h = branch.enter(tokens)
        tokens = branch.leave(tokens, self.attention(h, condition) + self.mlp(h))
        if text is not None:
            tokens = tokens + self.cross(tokens, text, condition)
        return tokens, text

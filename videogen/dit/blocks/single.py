"""Tokens and text as one stream, attention and MLP side by side: the later layers of MM-DiTs."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition, Kit
from videogen.dit.joint import JointAttention, of_both
from videogen.dit.patterns import Full


@BLOCKS.register("single")
class SingleBlock(nn.Module):
    """Joint self-attention and MLP in parallel, under one norm and gate, with the same weights for tokens and text.

    Parallel layers are those of https://arxiv.org/abs/2302.05442, section 2.1; FLUX, HunyuanVideo
    (https://arxiv.org/abs/2412.03603, section 4.2) and Open-Sora 2.0 have them behind layers of two streams.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.

    Raises:
        ValueError: a text of another width than the tokens.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit) -> None:
        super().__init__()
        self.modulation = kit.modulation(dim, 1)
        # the sum of both has one bias, the MLP's
        self.attention = JointAttention(dim, num_heads, kit, Full(), "shared", out_bias=False)
        self.mlp = kit.mlp(dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l d"] | None]:
        """(B, N, D) and (B, L, D) -> the same."""
        (branch,), (branch_text,) = of_both(self.modulation, condition)
        entered, words = branch.enter(tokens), None if text is None else branch_text.enter(text)
        seen, read = self.attention(entered, words, condition)
        tokens = branch.leave(tokens, seen + self.mlp(entered))
        if text is not None:
            text = branch_text.leave(text, read + self.mlp(words))
        return tokens, text

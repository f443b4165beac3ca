"""Two streams with layers of their own that meet in attention alone: MM-DiT's block."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BLOCKS, BlockCondition, Kit
from videogen.dit.joint import JointAttention
from videogen.dit.patterns import Full


@BLOCKS.register("double")
class DoubleBlock(nn.Module):
    """Joint self-attention of tokens and text, each with projections, modulation and MLP of its own.

    MM-DiT, https://arxiv.org/abs/2403.03206, figure 2b; HunyuanVideo's and Open-Sora 2.0's first layers. With a text of
    another width than the tokens it is Mochi's asymmetric one.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        last: the text is read and left as it is, since no layer behind this one asks for it.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit, *, last: bool = False) -> None:
        super().__init__()
        width = kit.text_dim or dim
        self.modulation = kit.modulation(dim, 2)
        self.text_modulation = kit.modulation(width, 1, gated=False) if last else kit.modulation(width, 2)
        self.attention = JointAttention(dim, num_heads, kit, Full(), "read" if last else "own")
        self.mlp = kit.mlp(dim)
        self.text_mlp = None if last else kit.mlp(width)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l e"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l e"] | None]:
        """(B, N, D) and (B, L, E) -> the same."""
        attend, feed = self.modulation(condition)
        attend_text, *rest = self.text_modulation(condition.of_text())
        seen, read = self.attention(attend.enter(tokens), None if text is None else attend_text.enter(text), condition)
        tokens = attend.leave(tokens, seen)
        tokens = feed.leave(tokens, self.mlp(feed.enter(tokens)))
        if text is not None and self.text_mlp is not None:
            text = attend_text.leave(text, read)
            text = rest[0].leave(text, self.text_mlp(rest[0].enter(text)))
        return tokens, text

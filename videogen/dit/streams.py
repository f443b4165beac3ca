"""The block of two streams, tokens and text, with layers of their own that meet in attention alone."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BlockCondition, Kit
from videogen.dit.branch import onwards
from videogen.dit.fusible import Fusible
from videogen.dit.joint import JointAttention
from videogen.dit.patterns import Pattern


class TwoStreams(Fusible):
    """Joint self-attention of tokens and text, each with projections, modulation and MLP of its own.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of; the text may be of another width than the tokens.
        pattern: which tokens attend to which.
        last: the text is read and left as it is, since no layer behind this one asks for it.
        spare: a last block has a whole modulation of the text all the same, of which it uses the first signals.
    """

    def __init__(
        self, dim: int, num_heads: int, kit: Kit, pattern: Pattern, last: bool = False, spare: bool = False
    ) -> None:
        super().__init__()
        width = kit.text_dim or dim
        self.modulation = kit.modulation(dim, 2)
        if last and not spare:
            self.text_modulation = kit.modulation(width, 1, gated=False)
        else:
            self.text_modulation = kit.modulation(width, 2, norms=1 if last else 2)
        self.attention = JointAttention(dim, num_heads, kit, pattern, "read" if last else "own")
        self.mlp = kit.mlp(dim)
        self.text_mlp = None if last else kit.mlp(width)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l e"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l e"] | None]:
        """(B, N, D) and (B, L, E) -> the same."""
        attend, feed = self.modulation(condition)
        attend_text, *feed_text = self.text_modulation(condition.of_text())
        seen, read = self.attention(attend.enter(tokens), None if text is None else attend_text.enter(text), condition)
        tokens, seen = onwards(self.ops, tokens, seen, attend, feed)
        tokens = feed.leave(tokens, self.mlp(seen))
        if text is not None and self.text_mlp is not None:
            text, read = onwards(self.ops, text, read, attend_text, feed_text[0])
            text = feed_text[0].leave(text, self.text_mlp(read))
        return tokens, text

"""One set of layers for tokens and text in one sequence, with a modulation for each: CogVideoX's block."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BLOCKS, BlockCondition, Kit
from videogen.dit.branch import onwards
from videogen.dit.fusible import Fusible
from videogen.dit.joint import JointAttention, of_both
from videogen.dit.patterns import Full


@BLOCKS.register("expert")
class ExpertBlock(Fusible):
    """Joint self-attention and MLP over tokens and text, which share all weights but those of the modulation.

    The expert transformer of CogVideoX, https://arxiv.org/abs/2408.06072, section 2.2.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.

    Raises:
        ValueError: a text of another width than the tokens.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit) -> None:
        super().__init__()
        # attention: tokens, text; MLP: tokens, text
        self.modulation = kit.modulation(dim, 4, norms=2)
        self.attention = JointAttention(dim, num_heads, kit, Full(), "shared")
        self.mlp = kit.mlp(dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l d"] | None]:
        """(B, N, D) and (B, L, D) -> the same."""
        (attend, _, feed, _), (_, attend_text, _, feed_text) = of_both(self.modulation, condition)
        seen, read = self.attention(attend.enter(tokens), None if text is None else attend_text.enter(text), condition)
        tokens, seen = onwards(self.ops, tokens, seen, attend, feed)
        tokens = feed.leave(tokens, self.mlp(seen))
        if text is not None:
            text, read = onwards(self.ops, text, read, attend_text, feed_text)
            text = feed_text.leave(text, self.mlp(read))
        return tokens, text

"""Cross-attention from the tokens to the text."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BlockCondition
from videogen.dit.crosses import CROSSES
from videogen.dit.crosses._text import TextAttention


@CROSSES.register("attention")
class CrossAttention(TextAttention):
    """Multi-head attention from tokens to text, as in PixArt, https://arxiv.org/abs/2310.00426, section 2.2.

    Args:
        dim: width of the tokens and the text.
        num_heads: attention heads.
        kit: kernel and norms.
        norm: of the tokens before it: LayerNorm or RMSNorm with weights, or none, as in PixArt.
        zero: start the last layer as zero.
        qk_norm: whether the kit's norm is on queries and keys here too.

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"], condition: BlockCondition
    ) -> Float[Tensor, "b n d"]:
        """tokens (B, N, D), text (B, L, D) -> (B, N, D); zero before the last layer where all text is masked out."""
        return self.leave(self.attend(self.query(tokens), text, condition))

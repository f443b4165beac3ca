"""Decoupled cross-attention: text and image are read by the same queries, each with keys and values of its own."""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BlockCondition, Kit
from videogen.dit.crosses import CROSSES
from videogen.dit.crosses._text import TextAttention
from videogen.dit.initial import linear


@CROSSES.register("decoupled")
class DecoupledAttention(TextAttention):
    """Attention to the text plus attention to the image, https://arxiv.org/abs/2308.06721, section 3.2; Wan's I2V too.

    Without image tokens it is attention to the text alone.

    Args:
        dim: width of the tokens, the text and the image tokens.
        num_heads: attention heads.
        kit: kernel and norms.
        norm: of the tokens before it: LayerNorm or RMSNorm with weights, or none.
        zero: start the last layer as zero.
        qk_norm: whether the kit's norm is on queries and keys here too.

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

    #: a DiT that embeds images needs a block that reads them
    reads_image: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kit: Kit,
        *,
        norm: Literal["layer", "rms", "none"] = "layer",
        zero: bool = True,
        qk_norm: bool = True,
    ) -> None:
        super().__init__(dim, num_heads, kit, norm=norm, zero=zero, qk_norm=qk_norm)
        self.image_kv = linear(dim, 2 * dim, kit.bias)
        self.norm_image_k = copy.deepcopy(self.norm_k)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"], condition: BlockCondition
    ) -> Float[Tensor, "b n d"]:
        """tokens (B, N, D), text (B, L, D), condition.image (B, L_image, D) -> (B, N, D)."""
        q = self.query(tokens)
        attended = self.attend(q, text, condition)
        if condition.image is not None:
            k, v = self.keys_values(self.image_kv, self.norm_image_k, condition.image, condition)
            attended = attended + self.kernel(q, k, v)
        return self.leave(attended)

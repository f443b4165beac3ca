"""Cross-attention in which frames that are known read no sentence: it says nothing of them that isn't seen."""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BlockCondition
from videogen.dit.crosses import CROSSES
from videogen.dit.crosses._text import TextAttention
from videogen.dit.memo import remembered


@CROSSES.register("known_null")
class KnownNullAttention(TextAttention):
    """Attention to the text, from known frames to the model's own text for none: Open-Sora 1.3.

    https://github.com/hpcaitech/Open-Sora, branch opensora/v1.3, `STDiT3Block`. Where no frames are known it is
    attention to the text.

    Args:
        dim: width of the tokens and the text.
        num_heads: attention heads.
        kit: kernel and norms.
        norm: of the tokens before it: LayerNorm or RMSNorm with weights, or none.
        zero: start the last layer as zero.
        qk_norm: whether the kit's norm is on queries and keys here too.

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

    # a caption that reads the time has no text for none
    goes_with: ClassVar[dict[str, set[str]]] = {"caption": {"linear", "mlp", "none", "normed_mlp"}}
    #: a DiT has to have a text for none, and tells which frames are known
    reads_null: ClassVar[bool] = True

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"], condition: BlockCondition
    ) -> Float[Tensor, "b n d"]:
        """tokens (B, N, D), text (B, L, D), condition.null (1, L, D) -> (B, N, D)."""
        q = self.query(tokens)
        attended = self.attend(q, text, condition)
        null, known = condition.null, condition.known
        if null is not None and known is not None:
            # beside what is remembered of the text, which goes through the same layer
            k, v = remembered(condition.memo, self, self.kv.weight, lambda: self.split(self.kv, self.norm_k, null))
            k, v = (x.expand(len(q), -1, -1, -1) for x in (k, v))
            own = self.kernel(q, k, v, mask=condition.text_mask)
            place = repeat(known, "b t -> b 1 (t s) 1", s=tokens.shape[1] // known.shape[1])
            attended = torch.where(place, own, attended)
        return self.leave(attended)

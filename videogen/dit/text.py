"""Text of one length for all sentences, as models take it that were trained without a mask of the text."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def filled(text: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"] | None, length: int) -> Float[Tensor, "b length d"]:
    """Words and, up to that many tokens, zeros, (B, L, D) -> (B, length, D); zeros too where the mask is False.

    Raises:
        ValueError: more tokens than that.
    """
    if text.shape[1] > length:
        raise ValueError(f"{text.shape[1]} text tokens, and this model takes {length}: shorten the sentence")
    if mask is not None:
        text = text.masked_fill(~mask[..., None], 0.0)
    return F.pad(text, (0, 0, 0, length - text.shape[1]))

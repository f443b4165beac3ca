"""Text of one length for all sentences: as long as the longest, or as models take it that know no mask of the text."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def sentences(
    text: Float[Tensor, "b l d"] | None, mask: Bool[Tensor, "b l"] | None, length: int, memo: dict[Any, Any] | None
) -> tuple[Float[Tensor, "b l_ d"] | None, Bool[Tensor, "b l_"] | None]:
    """The text as a model reads it, and which of it are words.

    Padding behind the longest sentence, as that of an encoder's fixed length, is cut off, since nobody attends to it;
    but not where nothing is kept from step to step, and a GPU would be waited for at each to learn how much it is.

    Args:
        length: fill the text up to so many tokens instead, see `filled`; 0 for none.
        memo: what is kept from step to step.

    Raises:
        ValueError: more tokens than that.
    """
    if text is not None and length:
        return filled(text, mask, length), None
    if text is None or mask is None or memo is None:
        return text, mask
    if sentences not in memo:
        memo[sentences] = _cut(text, mask)
    cut: tuple[Tensor, Tensor | None] = memo[sentences]
    return cut


def _cut(text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    words = mask.any(0).tolist()
    longest = max((place for place, word in enumerate(words, start=1) if word), default=1)
    text, mask = text[:, :longest], mask[:, :longest]
    return text, None if mask.all() else mask


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


def known_frames(mask: Tensor, patch_frames: int) -> Bool[Tensor, "b t"]:
    """Which frames of tokens are known, if only in part, of a mask (B, T) or (B, M, T, H, W)."""
    frames = mask.bool() if mask.ndim == 2 else mask.bool().any(1).flatten(2).any(-1)
    whole = F.pad(frames, (0, -frames.shape[1] % patch_frames))
    return whole.view(len(whole), -1, patch_frames).any(-1)

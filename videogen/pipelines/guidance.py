"""Classifier-free guidance: two predictions in, one out."""

from __future__ import annotations

import torch
from torch import Tensor

from videogen.text import TextFeatures


def guide(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """unconditional + scale * (conditional - unconditional) (Ho and Salimans, arXiv 2207.12598, eq. 6), rescaled.

    (B, C, T, H, W), twice -> (B, C, T, H, W)

    Args:
        scale: 1 is no guidance.
        rescale: 0 to 1, how far the result's standard deviation is brought back to the conditional one's
            (Lin et al., arXiv 2305.08891, eq. 15 and 16).
    """
    guided = unconditional + scale * (conditional - unconditional)
    if rescale == 0.0:
        return guided
    axes = tuple(range(1, guided.ndim))
    matched = guided * (conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
    return rescale * matched + (1 - rescale) * guided


def stack_features(first: TextFeatures, second: TextFeatures) -> TextFeatures:
    """Two batches of text as one (2B, L, D), the shorter padded and masked."""
    length = max(first.tokens.shape[1], second.tokens.shape[1])
    tokens, masks = [], []
    for features in (first, second):
        missing = length - features.tokens.shape[1]
        tokens.append(torch.nn.functional.pad(features.tokens, (0, 0, 0, missing)))
        masks.append(torch.nn.functional.pad(features.mask, (0, missing)))
    pooled = None
    if first.pooled is not None and second.pooled is not None:
        pooled = torch.cat([first.pooled, second.pooled])
    return TextFeatures(torch.cat(tokens), torch.cat(masks), pooled)

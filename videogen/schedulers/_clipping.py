"""Predicted clean latents kept within bounds, fixed ones or as wide as most of their values."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(kw_only=True, eq=False)
class Clipping:
    """Static and dynamic thresholding (Saharia et al., arXiv 2205.11487, section 2.3), for data of a known range.

    Args:
        clip_x0: predicted clean latents are clamped to [-clip_x0, clip_x0]; 0 leaves them.
        clip_quantile: above 0 the bounds are dynamic: if this share of a sample's magnitudes, like 0.995, reaches
            beyond clip_x0, it is clamped to where that share ends, and scaled back to clip_x0.
        clip_widest: where dynamic bounds end; 0 bounds them nowhere.

    Raises:
        ValueError: a knob out of range, or a quantile without bounds.
    """

    clip_x0: float = 0.0
    clip_quantile: float = 0.0
    clip_widest: float = 0.0

    def __post_init__(self) -> None:
        if self.clip_x0 < 0:
            raise ValueError(f"clip_x0={self.clip_x0}: at least 0; 0 switches it off")
        if not 0 <= self.clip_quantile <= 1:
            raise ValueError(f"clip_quantile={self.clip_quantile} lies outside [0, 1]: 0 keeps the bounds fixed")
        if self.clip_quantile and not self.clip_x0:
            raise ValueError(f"clip_quantile={self.clip_quantile} widens the bounds of clip_x0, which is 0: set it too")
        if self.clip_widest and not (self.clip_quantile and self.clip_widest >= self.clip_x0):
            raise ValueError(
                f"clip_widest={self.clip_widest} ends what clip_quantile={self.clip_quantile} widens from "
                f"clip_x0={self.clip_x0}: set both, and it no less than clip_x0, or 0"
            )

    def clipped(self, x0: Tensor) -> Tensor:
        """(B, ...) -> (B, ...), within [-clip_x0, clip_x0] if that isn't 0."""
        if not self.clip_x0:
            return x0
        if not self.clip_quantile:
            return x0.clamp(-self.clip_x0, self.clip_x0)
        magnitudes = x0.abs().flatten(1)
        # torch.quantile takes no more than 16 million values: the k-th smallest and the next, with its weights
        place = self.clip_quantile * (magnitudes.shape[1] - 1)
        ordered = magnitudes.sort(dim=1).values
        low, high = ordered[:, int(place)], ordered[:, min(int(place) + 1, magnitudes.shape[1] - 1)]
        bound = torch.lerp(low, high, place - int(place)).clamp(self.clip_x0, self.clip_widest or None)
        bound = bound.view(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-bound, bound) * (self.clip_x0 / bound)

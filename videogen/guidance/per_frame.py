"""A scale for each frame: what is known of the first frames needs less guidance than those far from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from videogen.guidance import GUIDES, Branch, Moment
from videogen.guidance._shared import TextGuide


@GUIDES.register("per_frame")
@dataclasses.dataclass(kw_only=True, eq=False)
class PerFrame(TextGuide):
    """Guidance that grows evenly from the first latent frame to the last (Stable Video Diffusion, arXiv 2311.15127,
    appendix D).

    Args:
        first: scale of the first frame; the last has that of the guidance. 1 is no guidance.
    """

    first: float = 1.0

    def branches(self, scale: float, moment: Moment | None = None) -> tuple[Branch, ...]:
        """The full prediction, and that without text unless no frame is guided."""
        return ("full",) if scale == self.first == 1.0 else ("full", "none")

    def combine(self, predictions: Mapping[Branch, Tensor], scale: float, moment: Moment) -> Tensor:
        """none + scale_t * (full - none) for each frame t, (B, C, T, H, W)."""
        full = predictions["full"]
        if "none" not in predictions:
            return full
        scales = torch.linspace(self.first, scale, full.shape[2]).to(full).view(-1, 1, 1)
        return predictions["none"] + scales * (full - predictions["none"])

"""Adaptive projected guidance: strong scales without the saturation that comes with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from videogen.guidance import GUIDES, Branch, Moment
from videogen.guidance._shared import TextGuide


@GUIDES.register("apg")
@dataclasses.dataclass(kw_only=True, eq=False)
class AdaptiveProjected(TextGuide):
    """Adaptive projected guidance (Sadat et al., arXiv 2410.02416, algorithm 1), on predicted clean latents.

    Of the difference between the two predictions the part along the guided one, which saturates, is weakened; its norm
    is bounded, and it remembers the earlier ones with a negative weight.

    Args:
        eta: weight of the part of the difference that is parallel to the full prediction; 1 keeps it.
        norm: bound of the root mean square of the difference, for latents of unit variance; 0 is none. It is the
            paper's r over the root of the number of values, so that it fits any size.
        momentum: weight of the running sum of earlier differences; the paper has -0.5, 0 is none.

    Raises:
        ValueError: a norm below 0, or a momentum that would grow.
    """

    eta: float = 0.0
    norm: float = 0.2
    momentum: float = -0.5

    def __post_init__(self) -> None:
        if self.norm < 0:
            raise ValueError(f"norm={self.norm}: at least 0; 0 sets no bound")
        if not -1 < self.momentum < 1:
            raise ValueError(f"momentum={self.momentum} lies outside (-1, 1): usually -0.5, 0 is none")
        self._sum: Tensor | None = None

    def start(self) -> Self:
        """The guide for one walk, whose running sum is empty."""
        return dataclasses.replace(self)

    @property
    def on_x0(self) -> bool:
        """True: what is parallel, and how long it is, depends on what is predicted."""
        return True

    def combine(self, predictions: Mapping[Branch, Tensor], scale: float, moment: Moment) -> Tensor:
        """full + (scale - 1) * difference, projected and bounded, (B, C, T, H, W)."""
        full = predictions["full"]
        if "none" not in predictions:
            return full
        axes = tuple(range(1, full.ndim))
        difference = full - predictions["none"]
        if self.momentum:
            difference = difference if self._sum is None else difference + self.momentum * self._sum
            self._sum = difference
        if self.norm:
            size = difference.square().mean(axes, keepdim=True).sqrt()
            difference = difference * (self.norm / size.clamp(min=torch.finfo(size.dtype).tiny)).clamp(max=1)
        # sums over all values in float64
        along, straight = full.double(), difference.double()
        part = (straight * along).sum(axes, keepdim=True) / along.square().sum(axes, keepdim=True).clamp(min=1e-300)
        parallel = (part * along).to(full.dtype)
        return full + (scale - 1) * (difference - parallel + self.eta * parallel)

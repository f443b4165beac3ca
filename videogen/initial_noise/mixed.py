"""Noise that is partly the same in all frames, for a model that was trained with such."""

from __future__ import annotations

import dataclasses

import torch
from torch import Generator, Tensor

from videogen.initial_noise import INITIAL_NOISE, Seen, Shape
from videogen.initial_noise._shared import Shared


@INITIAL_NOISE.register("mixed")
@dataclasses.dataclass(kw_only=True, eq=False)
class Mixed(Shared):
    """PYoCo's mixed noise (arXiv 2305.10474): alpha / sqrt(1 + alpha^2) of a common frame, the rest its own."""

    def draw(self, shape: Shape, source: Generator, seen: Seen | None = None) -> Tensor:
        """See `videogen.initial_noise.InitialNoise`."""
        channels, _, height, width = shape
        common = torch.randn((channels, 1, height, width), generator=source)
        shared, own = self.shares
        return shared * common + own * torch.randn(shape, generator=source)

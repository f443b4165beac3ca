"""Noise of frames that have nothing in common: what most models are trained on."""

from __future__ import annotations

import dataclasses

import torch
from torch import Generator, Tensor

from videogen.initial_noise import INITIAL_NOISE, Seen, Shape


@INITIAL_NOISE.register("independent")
@dataclasses.dataclass(kw_only=True, eq=False)
class Independent:
    """Every value is drawn for itself."""

    def draw(self, shape: Shape, source: Generator, seen: Seen | None = None) -> Tensor:
        """See `videogen.initial_noise.InitialNoise`."""
        return torch.randn(shape, generator=source)

"""Noise that changes little from frame to frame, for a model that was trained with such."""

from __future__ import annotations

import dataclasses

import torch
from torch import Generator, Tensor

from videogen.initial_noise import INITIAL_NOISE, Seen, Shape
from videogen.initial_noise._shared import Shared


@INITIAL_NOISE.register("progressive")
@dataclasses.dataclass(kw_only=True, eq=False)
class Progressive(Shared):
    """PYoCo's progressive noise (arXiv 2305.10474): alpha / sqrt(1 + alpha^2) of the frame before, the rest its own."""

    def draw(self, shape: Shape, source: Generator, seen: Seen | None = None) -> Tensor:
        """See `videogen.initial_noise.InitialNoise`."""
        fresh = torch.randn(shape, generator=source)
        frames = [fresh[:, 0]]
        shared, own = self.shares
        for frame in fresh[:, 1:].unbind(1):
            frames.append(shared * frames[-1] + own * frame)
        return torch.stack(frames, dim=1)

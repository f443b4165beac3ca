"""Which latent frames of a training clip are known: what makes one model animate, extend, connect and fill in."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Generator, Tensor


def draw_known(clips: int, frames: int, share: float, source: Generator) -> Bool[Tensor, "b t"]:
    """Which latent frames of each clip are known, (B, T); never all of them, and none of an image's.

    A clip with known frames has, with even odds, its first frame alone, its first frames, its last ones, both ends, or
    any frames: image to video, extension forward and backward, connection, interpolation. How many is even too.

    Args:
        clips: B.
        frames: T.
        share: of clips with known frames, 0 to 1.
        source: of the draws.
    """
    known = torch.zeros(clips, frames, dtype=torch.bool)
    for index in range(clips):
        chosen, kind, count = torch.rand(3, generator=source).tolist()
        if frames > 1 and chosen < share:
            known[index, _which(int(5 * kind), 1 + int(count * (frames - 1)), frames, source)] = True
    return known


def _which(kind: int, count: int, frames: int, source: Generator) -> Tensor:
    """The numbers of `count` frames, fewer than there are."""
    if kind == 0:
        return torch.tensor([0])
    ahead = {1: count, 2: 0, 3: (count + 1) // 2}
    if kind in ahead:
        return torch.arange(count) + torch.where(torch.arange(count) < ahead[kind], 0, frames - count)
    return torch.randperm(frames, generator=source)[:count]

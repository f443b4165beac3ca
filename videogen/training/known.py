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
    chosen, kind, some = torch.rand(3, clips, 1, generator=source)
    # the numbers of the frames in any order
    shuffled = torch.rand(clips, frames, generator=source).argsort(1)
    kind = (5 * kind).long()
    count = torch.where(kind == 0, 1, 1 + (some * (frames - 1)).long())
    ahead = torch.where(kind == 2, 0, torch.where(kind == 3, (count + 1) // 2, count))
    place = torch.arange(frames)
    ends = (place < ahead) | (place >= frames - (count - ahead))
    known: Tensor = torch.where(kind == 4, shuffled < count, ends) & (chosen < share)
    return known & (frames > 1)

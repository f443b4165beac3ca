"""Where windows lie over a film, and what counts where they overlap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

#: of a window by the starts and stops of all and its number: what it counts at each of its frames, before the shares
Ramp = Callable[[Sequence[int], Sequence[int], int], Tensor]


@dataclasses.dataclass(frozen=True)
class Window:
    """Latent frames that are seen at once.

    Args:
        start, stop: the first one, and the one behind the last.
        weights: what is made of it counts at each of them (stop - start,); those of all windows sum to 1 at a frame.
    """

    start: int
    stop: int
    weights: Float[Tensor, " t"]


def faded(starts: Sequence[int], stops: Sequence[int], index: int) -> Float[Tensor, " t"]:
    """1, rising from 0 over what is common with the window before, and falling over what is with the one behind.

    Where two overlap, the weight goes over from the one to the other as sin^2: without a step at either's end.
    """
    start, stop = starts[index], stops[index]
    place = torch.arange(start, stop, dtype=torch.float64) + 0.5
    ramp = torch.ones_like(place)
    if index:
        ramp *= _smooth((place - start) / (stops[index - 1] - start))
    if index + 1 < len(starts):
        ramp *= _smooth((stop - place) / (stop - starts[index + 1]))
    return ramp


def pyramid(starts: Sequence[int], stops: Sequence[int], index: int) -> Float[Tensor, " t"]:
    """Falling evenly from the centre of the window to 1 at its ends: 1, 2, 3, 2, 1 (FreeNoise, arXiv 2310.15169)."""
    place = torch.arange(1, stops[index] - starts[index] + 1, dtype=torch.float64)
    return torch.minimum(place, place.flip(0))


def place_windows(frames: int, length: int, overlap: int, ramp: Ramp = faded) -> list[Window]:
    """As few windows as cover a film and overlap by at least so many latent frames, evenly spread.

    Args:
        ramp: what each counts, as a share of what all do.
    """
    count = max(1, math.ceil((frames - overlap) / (length - overlap)))
    last = max(frames - length, 0)
    starts = [round(index * last / max(count - 1, 1)) for index in range(count)]
    stops = [min(start + length, frames) for start in starts]
    ramps = [ramp(starts, stops, index) for index in range(count)]
    total = torch.zeros(frames, dtype=torch.float64)
    for start, stop, each in zip(starts, stops, ramps, strict=True):
        total[start:stop] += each
    return [Window(a, b, each / total[a:b]) for a, b, each in zip(starts, stops, ramps, strict=True)]


def _smooth(share: Tensor) -> Tensor:
    return torch.sin(share.clamp(0, 1) * (math.pi / 2)).square()

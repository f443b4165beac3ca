"""Overlapping tiles along any axis, faded linearly into one another, for autoencoders that were published with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from videogen.vae._streaming import filled


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Tiles along one axis of (B, C, T, H, W).

    Args:
        axis: of the tensor.
        size: of a tile.
        overlap: what neighbours share, at most half of a tile.
    """

    axis: int
    size: int
    overlap: int

    def cut(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """The tiles of a stream; the last one is as short as the stream leaves it, but longer than what it shares."""
        waiting: Tensor | None = None
        least, stride = 0, self.size - self.overlap
        for chunk in chunks:
            waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=self.axis)
            while waiting.shape[self.axis] >= self.size:
                yield waiting.narrow(self.axis, 0, self.size)
                waiting, least = waiting.narrow(self.axis, stride, waiting.shape[self.axis] - stride), self.overlap
        if waiting is not None and waiting.shape[self.axis] > least:
            yield waiting

    def join(self, tiles: Iterable[Tensor]) -> Iterator[Tensor]:
        """What was made of each tile -> one stream, each tile faded into the one before."""
        before: Tensor | None = None
        for tile in tiles:
            joined = tile if before is None else self._faded(before, tile)
            known = min(self.size - self.overlap, joined.shape[self.axis])
            yield joined.narrow(self.axis, 0, known)
            before = joined.narrow(self.axis, known, joined.shape[self.axis] - known)
        if before is not None and before.shape[self.axis]:
            yield before

    def _faded(self, before: Tensor, tile: Tensor) -> Tensor:
        """The end of one tile over the beginning of the next, by a linear ramp from 0."""
        length = before.shape[self.axis]
        shape = [1] * tile.ndim
        shape[self.axis] = length
        ramp = (torch.arange(length) / max(length, 1)).view(shape).to(tile)
        mixed = torch.lerp(before, tile.narrow(self.axis, 0, length), ramp)
        return torch.cat([mixed, tile.narrow(self.axis, length, tile.shape[self.axis] - length)], dim=self.axis)


#: tiles along one axis of what goes in, and of what comes out
Cut = tuple[Tiles, Tiles]


def stream(code: Callable[[Tensor], Tensor], chunks: Iterable[Tensor], cuts: Sequence[Cut]) -> Iterator[Tensor]:
    """What `code` makes of a stream along the first cut's axis, tile by tile."""
    (into, out), *rest = cuts
    yield from out.join(tiled(code, tile, rest) for tile in into.cut(filled(chunks)))


def tiled(code: Callable[[Tensor], Tensor], x: Tensor, cuts: Sequence[Cut]) -> Tensor:
    """What `code` makes of x, tile by tile along the axes of all cuts."""
    if not cuts:
        return code(x)
    return torch.cat(list(stream(code, [x], cuts)), dim=cuts[0][1].axis)

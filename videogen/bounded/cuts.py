"""How a frame is cut into tiles and put together again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Axis(NamedTuple):
    """One side of a frame, cut: where its tiles start, how long each is, and what neighbours share at least."""

    starts: tuple[int, ...]
    size: int
    overlap: int

    @property
    def length(self) -> int:
        """Of the side that the tiles cover."""
        return self.starts[-1] + self.size

    def scaled(self, factor: int) -> Axis:
        """The same cuts in a finer unit."""
        return Axis(tuple(start * factor for start in self.starts), self.size * factor, self.overlap * factor)


def cut(length: int, tile: int, overlap: int) -> Axis:
    """The fewest equal tiles of at most `tile` that cover a side and share at least `overlap` with their neighbours."""
    count = max(1, math.ceil((length - overlap) / (tile - overlap)))
    size = math.ceil((length + (count - 1) * overlap) / count)
    starts = tuple(round(index * (length - size) / max(count - 1, 1)) for index in range(count))
    return Axis(starts, size, overlap)


def window(axis: Axis, index: int) -> Float[Tensor, " size"]:
    """The weights of one tile along a side: 1 within, and cosine ramps where it shares a border with another.

    The outermost quarter of a shared border weighs nothing: it saw the cut. sin^2 on one side and cos^2 on the other
    add up to 1.
    """
    trim = axis.overlap // 4
    weights = torch.ones(axis.size)
    length = axis.overlap - 2 * trim
    rise = torch.sin((torch.arange(length) + 0.5) / length * (math.pi / 2)).square()
    border = torch.cat([torch.zeros(trim), rise, torch.ones(trim)])
    if index > 0:
        weights[: axis.overlap] *= border
    if index < len(axis.starts) - 1:
        weights[axis.size - axis.overlap :] *= border.flip(0)
    return weights


def blend(pieces: Sequence[Tensor], rows: Axis, columns: Axis) -> Float[Tensor, "b c t h w"]:
    """Tiles (B, C, T, h, w), row by row, laid on one another by their weights: (B, C, T, H, W)."""
    canvas = pieces[0].new_zeros(*pieces[0].shape[:3], rows.length, columns.length)
    total = pieces[0].new_zeros(rows.length, columns.length)
    places = itertools.product(enumerate(rows.starts), enumerate(columns.starts))
    for piece, ((row, top), (column, left)) in zip(pieces, places, strict=True):
        weights = torch.outer(window(rows, row), window(columns, column)).to(piece)
        here = (..., slice(top, top + rows.size), slice(left, left + columns.size))
        canvas[here] += piece * weights
        total[here] += weights
    return canvas / total


def own(piece: Tensor, axis: Axis, index: int, dim: int) -> Tensor:
    """What of a tile belongs to it alone when overlaps are split in their middle."""

    def border(left: int) -> int:
        return (axis.starts[left + 1] + axis.starts[left] + axis.size) // 2

    start = border(index - 1) if index > 0 else 0
    end = border(index) if index < len(axis.starts) - 1 else axis.length
    return piece.narrow(dim, start - axis.starts[index], end - start)


Crop = Callable[[Tensor], Tensor]


def crops(rows: Axis, columns: Axis) -> list[Crop]:
    """One cropping function a tile, row by row."""

    def crop(top: int, left: int) -> Crop:
        return lambda frames: frames[..., top : top + rows.size, left : left + columns.size]

    return [crop(top, left) for top in rows.starts for left in columns.starts]

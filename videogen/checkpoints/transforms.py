"""Fixed, reversible changes of a published tensor's layout: patches as rows of a matrix, heads in another order."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from einops import rearrange
from torch import Tensor


class Transform(NamedTuple):
    """A published tensor -> ours, and back; each raises RuntimeError where the shape doesn't fit."""

    to_ours: Callable[[Tensor], Tensor]
    to_published: Callable[[Tensor], Tensor]


def rearranged(pattern: str, **sizes: int) -> Transform:
    """What `einops.rearrange` does, read in both directions.

    Examples: `rearranged("d c h w -> d (c h w)", h=2, w=2)` for patches that are cut by a convolution there,
    `rearranged("(h w c) ... -> (c h w) ...", h=2, w=2)` for a last layer with its channels innermost,
    `rearranged("(heads two c) ... -> (heads c two) ...", two=2, heads=8)` for channels that turn in halves there and
    in neighbours here.

    Args:
        pattern: published -> ours.
        sizes: of the axes that either side puts together, all but one of each group.
    """
    theirs, ours = (side.strip() for side in pattern.split("->"))
    back = f"{ours} -> {theirs}"
    return Transform(lambda x: rearrange(x, pattern, **sizes), lambda x: rearrange(x, back, **sizes))


def _swapped(x: Tensor) -> Tensor:
    return x.reshape(2, -1, *x.shape[1:]).flip(0).reshape(x.shape)


#: both halves of the first axis change places: a layer that gives scale and shift, not shift and scale
HALVES_SWAPPED = Transform(_swapped, _swapped)

"""Attention within groups of tokens that lie on axes of the sequence: a frame, a position, every k-th token, a box."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from videogen.kernels import Attention

# a CUDA grid ends there on the axes on which torch's kernels count heads
MOST_HEADS = 65_535


@dataclasses.dataclass(frozen=True)
class Axes:
    """A sequence as a grid of axes, the last one fastest: some count groups, the others the tokens of each group.

    Frames of T * S tokens are `Axes.of(T, S, groups=(0,))`; every k-th token is `Axes.of(N // k, k, groups=(1,))`.
    All that a kernel needs to find a token is a stride for each axis.

    Args:
        sizes: length of each axis; their product is the length of the sequence.
        groups: which of them count groups.
    """

    sizes: tuple[int, ...]
    groups: tuple[int, ...]

    @classmethod
    def of(cls, *sizes: int, groups: tuple[int, ...] = ()) -> Axes:
        """The same with as few axes as tell it: neighbours of one kind are one axis, and an axis of one is none."""
        merged: list[tuple[int, bool]] = []
        for axis, size in enumerate(sizes):
            grouped = axis in groups
            if size == 1:
                continue
            if merged and merged[-1][1] == grouped:
                size *= merged.pop()[0]
            merged.append((size, grouped))
        kept = [size for size, _ in merged] or [1]
        return cls(tuple(kept), tuple(axis for axis, (_, grouped) in enumerate(merged) if grouped))

    @property
    def length(self) -> int:
        """Of the sequence."""
        return math.prod(self.sizes)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Which axes count the tokens of a group."""
        return tuple(axis for axis in range(len(self.sizes)) if axis not in self.groups)

    @property
    def strided(self) -> bool:
        """Whether the tokens of a group lie at even distances: what kernels of one stride a sequence can read."""
        return len(self.tokens) <= 1

    @property
    def fits(self) -> bool:
        """Whether two axes of groups and two of tokens tell it."""
        return len(self.groups) <= 2 and len(self.tokens) <= 2

    def apart(self, x: Tensor) -> Tensor:
        """(B, N, …) -> (outer groups, inner groups, outer tokens, inner tokens, …), B among the groups.

        A view of contiguous tokens, and of most others; needs `fits`.
        """
        tail = range(1 + len(self.sizes), x.ndim + len(self.sizes) - 1)
        x = x.unflatten(1, self.sizes).permute(0, *(1 + axis for axis in self.groups + self.tokens), *tail)
        groups, tokens = 1 + len(self.groups), len(self.tokens)
        if groups > 2:
            x, groups = x.flatten(0, 1), 2
        if groups < 2:
            x = x.unsqueeze(0)
        for _ in range(2 - tokens):
            x = x.unsqueeze(2 + tokens)
        return x

    def together(self, x: Tensor, batch: int) -> Tensor:
        """The inverse of `apart`: (outer groups, inner groups, outer tokens, inner tokens, …) -> (B, N, …)."""
        return self._restored(x.reshape(batch, *self._order_sizes, *x.shape[4:]))

    def gather(self, x: Tensor) -> Tensor:
        """(B, N, …) -> (B, N, …) with the tokens of each group behind one another."""
        tail = range(1 + len(self.sizes), x.ndim + len(self.sizes) - 1)
        x = x.unflatten(1, self.sizes).permute(0, *(1 + axis for axis in self.groups + self.tokens), *tail)
        return x.flatten(1, len(self.sizes))

    def scatter(self, x: Tensor) -> Tensor:
        """The inverse of `gather`."""
        return self._restored(x.unflatten(1, self._order_sizes))

    @property
    def _order_sizes(self) -> list[int]:
        return [self.sizes[axis] for axis in self.groups + self.tokens]

    def _restored(self, x: Tensor) -> Tensor:
        """(B, axes of groups, axes of tokens, …) -> (B, N, …)."""
        order, count = self.groups + self.tokens, len(self.sizes)
        x = x.permute(0, *(1 + order.index(axis) for axis in range(count)), *range(1 + count, x.ndim))
        return x.flatten(1, count)

    @property
    def gathered(self) -> Axes:
        """What `gather` makes of these axes."""
        groups = math.prod(self.sizes[axis] for axis in self.groups)
        return Axes.of(groups, self.length // groups, groups=(0,))


def attend_axes(
    kernel: Attention, q: Tensor, k: Tensor, v: Tensor, axes: Axes, *, mask: Tensor | None = None
) -> Tensor:
    """Attention among the tokens of each group, by any kernel: q, k, v and out are (B, N, heads, head_dim).

    A kernel that reads axes does so in place. To any other, groups in front of their tokens are a batch, and those
    behind them are heads: frames are samples, and positions of a frame are heads over time, so that no tensor moves
    if each token's heads lie next to its neighbour's. Groups of several axes of tokens are put in order first.

    Args:
        mask: (B, N) bool, False for keys that nobody attends to.
    """
    if kernel.support.axes and axes.fits:
        return kernel.within(q, k, v, axes, mask=mask)  # type: ignore[attr-defined, no-any-return]
    batch, length, heads, head_dim = q.shape
    # all groups stand in front of a token that is alone in its group
    place = axes.tokens[0] if axes.tokens else len(axes.sizes)
    before, behind = math.prod(axes.sizes[:place]), math.prod(axes.sizes[place + 1 :])
    if not axes.strided or (q.device.type == "cuda" and behind > 1 and behind * heads > MOST_HEADS):
        q, k, v = (axes.gather(x) for x in (q, k, v))
        mask = None if mask is None else axes.gather(mask)
        return axes.scatter(attend_axes(kernel, q, k, v, axes.gathered, mask=mask))
    shape = (batch * before, length // (before * behind), behind * heads, head_dim)
    if mask is not None:
        mask = mask.reshape(*shape[:2], behind)
        mask = mask.squeeze(2) if behind == 1 else mask.transpose(1, 2).repeat_interleave(heads, 1)[:, :, None]
    out = kernel(*(x.reshape(shape).transpose(1, 2) for x in (q, k, v)), mask=mask)
    return out.transpose(1, 2).reshape(batch, length, heads, head_dim)

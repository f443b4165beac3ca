"""Attention kernels: the contract, and what each kernel declares that it can do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from videogen.kernels._axes import Axes, attend_axes
from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ATTENTION", "Attention", "Axes", "Support", "attend_axes"]


@dataclasses.dataclass(frozen=True)
class Support:
    """What a kernel takes; anything else is refused with a reason before it runs.

    Args:
        dtypes: names of torch dtypes, e.g. "float32".
        devices: device types, e.g. "cpu".
        max_head_dim: the largest head_dim, or None for any.
        mask: takes a key mask (B, L) or a full mask (B, heads, N, L), bool, True = attend.
        backward: gradients flow through it.
        axes: has `within(q, k, v, axes, mask=None)`, which reads groups of tokens where they lie; see `attend_axes`.
        blocks: takes `blocks`, a list of blocks of tokens in place of a mask; see `videogen.kernels.blocks`.
    """

    dtypes: frozenset[str]
    devices: frozenset[str]
    max_head_dim: int | None
    mask: bool
    backward: bool
    axes: bool = False
    blocks: bool = False


class Attention(Protocol):
    """Scaled dot-product attention, softmax(q k^T / sqrt(head_dim)) v."""

    support: Support

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim).

        Args:
            mask: (B, L) or (B, 1 or heads, 1 or N, L) bool, True = attend; a query that attends to nothing gets zeros.

        Raises:
            ValueError: the kernel doesn't support these inputs; the reason and a kernel that does are named.
        """
        ...


ATTENTION: Registry[Attention] = Registry("attention", "videogen.kernels")

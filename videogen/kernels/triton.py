"""Attention as Triton kernels: FlashAttention with a backward, on any strides and on groups of tokens in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from videogen.kernels import ATTENTION, Axes, Support
from videogen.kernels._flash import flash, flash_packed
from videogen.kernels._flash_tiles import Tile
from videogen.kernels._shared import check
from videogen.kernels._triton import INTERPRETED


class Segments(NamedTuple):
    """Where the sequences begin that stand behind one another in one.

    Args:
        queries: int32 (segments + 1), the first token of each and the end of the last.
        keys: the same of keys and values.
        longest_queries: most queries of a segment; no fewer, or what is beyond is left out.
        longest_keys: most keys of a segment.
    """

    queries: Tensor
    keys: Tensor
    longest_queries: int
    longest_keys: int


@ATTENTION.register("triton")
class TritonAttention:
    """FlashAttention-2, non-causal, forward and backward, on tensors of any strides.

    https://arxiv.org/abs/2307.08691, algorithms 1 and 2, with exp2 for exp and the scale folded into its argument.
    Groups of tokens are read where they lie, and short ones share a tile. A head_dim that is no power of two is padded
    to the next: 72 costs what 128 costs. A key under a mask of keys may hold NaN; a NaN stays in its row or group.

    Args:
        block_m: queries of one program in the forward, a power of two from 16; None chooses by head_dim and card.
        block_n: keys of one step, a power of two from 16; None chooses.
        num_warps: warps of one program, a power of two; None chooses.
        num_stages: steps whose loads are in flight; None chooses.
        descriptors: the forward moves its tiles by tensor descriptors (TMA), from Hopper on; a layout whose strides
            aren't multiples of 16 bytes, segments and masks of pairs are refused. The backward goes by pointers.
    """

    support = Support(
        # products of float64 are there for gradcheck, which needs them
        dtypes=frozenset({"float16", "bfloat16", "float32", *(["float64"] if INTERPRETED else [])}),
        devices=frozenset({"cpu", "cuda"}) if INTERPRETED else frozenset({"cuda"}),
        max_head_dim=256,
        mask=True,
        backward=True,
        axes=True,
    )

    def __init__(
        self,
        *,
        block_m: int | None = None,
        block_n: int | None = None,
        num_warps: int | None = None,
        num_stages: int | None = None,
        descriptors: bool = False,
    ) -> None:
        for knob, value, least in (("block_m", block_m, 16), ("block_n", block_n, 16), ("num_warps", num_warps, 1)):
            if value is not None and (value < least or value & (value - 1)):
                raise ValueError(f"{knob}={value} is not a power of two from {least}: try {least}, or None to choose")
        if num_stages is not None and num_stages < 1:
            raise ValueError(f"num_stages={num_stages} is less than 1: try 2, or None to choose")
        self.knobs = [*Tile(block_m or 0, block_n or 0, num_warps or 0, num_stages or 0), int(descriptors)]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim).

        Args:
            mask: (B, L) or (B, 1 or heads, 1 or N, L) bool, True = attend; a query that attends to nothing gets zeros.

        Raises:
            ValueError: shapes, dtype, device, head_dim or mask that don't fit.
        """
        return self.with_lse(q, k, v, mask=mask)[0]

    def with_lse(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same, and the logarithm of the sum of exponents of each query's scores, float32 (B, heads, N).

        With both, attention to more keys can be joined to this one. It is -inf where there is nothing to attend to.
        """
        q, k, v, mask = self._check((q, k, v), mask)
        # one group a sample, one axis of tokens: (1, B, N, 1, heads, head_dim)
        apart = (x.transpose(1, 2)[None, :, :, None] for x in (q, k, v))
        if mask is not None:
            mask = mask[None, :, :, :, :, None]
        out, lse = flash(*apart, mask, None, None, 0, 0, self.knobs)
        return out[0, :, :, 0].transpose(1, 2), lse

    def within(self, q: Tensor, k: Tensor, v: Tensor, axes: Axes, *, mask: Tensor | None = None) -> Tensor:
        """Attention within groups of tokens: q, k, v and out are (B, N, heads, head_dim), of any strides.

        Args:
            axes: which tokens are in a group.
            mask: (B, N) bool, False for keys that nobody attends to.

        Raises:
            ValueError: axes, shapes, dtype, device, head_dim or mask that don't fit.
        """
        _check_axes(axes, q.shape[1])
        q, k, v, mask = self._check((x.transpose(1, 2) for x in (q, k, v)), mask)
        apart = (axes.apart(x.transpose(1, 2)) for x in (q, k, v))
        out, _ = flash(*apart, _apart_mask(axes, mask), None, None, 0, 0, self.knobs)
        return axes.together(out, len(q))

    def packed(self, qkv: Tensor, axes: Axes, *, mask: Tensor | None = None) -> Tensor:
        """`within` for a projection as it comes: (B, N, 3, heads, head_dim) -> (B, N, heads, head_dim).

        Its gradient is one tensor that the kernels fill, where three would have to be stacked.
        """
        _check_axes(axes, qkv.shape[1])
        checked = self._check(qkv.permute(2, 0, 3, 1, 4), mask)
        qkv, mask = _side_by_side(qkv.to(checked[0].dtype)), checked[3]
        out, _ = flash_packed(axes.apart(qkv), _apart_mask(axes, mask), self.knobs)
        return axes.together(out, len(qkv))

    def ragged(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
        """Sequences of different lengths behind one another: q (N, heads, head_dim), k and v (L, heads, head_dim).

        Returns:
            out (N, heads, head_dim), zeros outside of all segments, and the logarithms of sums (heads, N).

        Raises:
            ValueError: segments, shapes, dtype, device or head_dim that don't fit.
        """
        q, k, v, _ = self._check((x[None].transpose(1, 2) for x in (q, k, v)), None)
        for starts in segments[:2]:
            if starts.dtype != torch.int32 or starts.shape != segments.queries.shape or starts.device != q.device:
                raise ValueError(
                    f"segments begin at int32 (segments + 1) on {q.device}, as many of queries as of keys: got "
                    f"{starts.dtype} {tuple(starts.shape)} on {starts.device}"
                )
        apart = (x.transpose(1, 2)[None, :, :, None] for x in (q, k, v))
        out, lse = flash(*apart, None, *segments, self.knobs)
        return out[0, 0, :, 0], lse

    def _check(self, heads: Iterable[Tensor], mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        q, k, v = heads
        if not INTERPRETED and q.device.type != "cuda":
            raise ValueError(
                "attention 'triton' needs a CUDA device, or TRITON_INTERPRET=1 in the environment, set before Python "
                f"starts (slow, for tests); the inputs are on {q.device}: use attention=sdpa"
            )
        q, k, v, mask = check("triton", self.support, q, k, v, mask)
        return _side_by_side(q), _side_by_side(k), _side_by_side(v), mask


def _side_by_side(x: Tensor) -> Tensor:
    # the kernels have a stride for every axis but the channels of a head
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _check_axes(axes: Axes, length: int) -> None:
    if not axes.fits:
        raise ValueError(
            f"attention 'triton' takes two axes of groups and two of tokens, not {axes}: use attend_axes, which puts "
            "the tokens in order first"
        )
    if (product := axes.length) != length:
        raise ValueError(f"{axes} are {product} tokens, and the sequence has {length}")


def _apart_mask(axes: Axes, mask: Tensor | None) -> Tensor | None:
    """(B, 1, 1, N) of keys -> (outer groups, inner groups, 1, 1, outer tokens, inner tokens)."""
    if mask is None:
        return None
    if mask.shape[1:3] != (1, 1):
        raise ValueError(f"within groups attention takes a mask of keys (B, N), not {tuple(mask.shape)}")
    return axes.apart(mask[:, 0, 0])[:, :, None, None]

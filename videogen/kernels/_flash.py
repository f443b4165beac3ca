"""FlashAttention as an operator of torch: shapes, strides and autograd around the kernels.

Tensors have six axes, (outer groups, inner groups, outer tokens, inner tokens, heads, head_dim), each with any stride
but for the last: `videogen::flash` takes queries, keys and values, `videogen::flash_packed` one tensor with all three,
whose gradient is one tensor too. They are opaque to torch.compile, which keeps them in its graph.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from videogen.kernels._flash_backward import flash_backward_keys, flash_backward_queries
from videogen.kernels._flash_descriptors import forward_described
from videogen.kernels._flash_forward import FULL_MASK, KEY_MASK, NO_MASK, flash_forward
from videogen.kernels._flash_tiles import Pass, Tile, choose_tile, fitted, packed_rows, packing
from videogen.kernels._triton import INTERPRETED, card, padded


class Sides(NamedTuple):
    """What every kernel is told of a call alike.

    Args:
        q: queries (G, J, N, I, heads, head_dim), or (1, 1, N, 1, heads, head_dim) with segments.
        k: keys, their axes of tokens of other lengths.
        v: values, like the keys.
        mask: (G, J, 1 or heads, 1 or N, L, I) bool, True = attend; one row for all queries, or I = 1 for both sides.
        first_q: int32, where each segment's queries begin, and where the last one's end; None without segments.
        first_k: the same of keys.
        longest_q: queries of the longest segment.
        longest_k: keys of the longest segment.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    first_q: Tensor | None
    first_k: Tensor | None
    longest_q: int
    longest_k: int

    @property
    def groups(self) -> int:
        """Groups, or segments."""
        return self.q.shape[0] * self.q.shape[1] if self.first_q is None else len(self.first_q) - 1

    @property
    def lengths(self) -> tuple[int, int]:
        """Queries and keys of a group, or of the longest segment."""
        if self.first_q is not None:
            return self.longest_q, self.longest_k
        return self.q.shape[2] * self.q.shape[3], self.k.shape[2] * self.k.shape[3]

    @property
    def mask_kind(self) -> int:
        """The kernels' MASK."""
        if self.mask is None:
            return NO_MASK
        return KEY_MASK if self.mask.shape[3] == 1 else FULL_MASK

    def strides(self, x: Tensor) -> tuple[int, ...]:
        """Of a tensor's axes but the last; segments are no axis."""
        strides = x.stride()[:5]
        return strides if self.first_q is None else (0, 0, *strides[2:])

    def mask_bits(self) -> tuple[Tensor, tuple[int, ...]]:
        """The mask as bytes, or any tensor in its place, and its strides, of which those of broadcast axes are zero."""
        if self.mask is None:
            return self.q, (0,) * 6
        bits = self.mask.view(torch.uint8)
        rows = self.lengths[0] if self.mask_kind == FULL_MASK else 1
        return bits, bits.expand(*self.q.shape[:2], self.q.shape[4], rows, *bits.shape[4:]).stride()

    def new_lse(self) -> Tensor:
        """Room for a logarithm of each query and head: (groups, heads, N), or (heads, N) with segments."""
        heads, dtype = self.q.shape[4], torch.float64 if self.q.dtype == torch.float64 else torch.float32
        shape = (self.groups, heads, self.lengths[0]) if self.first_q is None else (heads, self.q.shape[2])
        return self.q.new_empty(shape, dtype=dtype)


@torch.library.custom_op("videogen::flash", mutates_args=())
def flash(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    first_q: Tensor | None,
    first_k: Tensor | None,
    longest_q: int,
    longest_k: int,
    knobs: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Attention within groups: output like q, and the logarithm of each row's sum of exponents; see `Sides`.

    Args:
        knobs: block_m, block_n, num_warps and num_stages, each 0 to choose, and 1 for the way by descriptors.
    """
    sides = Sides(q, k, v, mask, first_q, first_k, longest_q, longest_k)
    out, lse = _outputs(sides)
    _forward(sides, out, lse, knobs)
    return out, lse


@flash.register_fake
def _(q, k, v, mask, first_q, first_k, longest_q, longest_k, knobs):
    sides = Sides(q, k, v, mask, first_q, first_k, longest_q, longest_k)
    return torch.empty_like(q), sides.new_lse()


@torch.library.custom_op("videogen::flash_backward", mutates_args=())
def flash_backward(
    d_out: Tensor,
    d_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    mask: Tensor | None,
    first_q: Tensor | None,
    first_k: Tensor | None,
    longest_q: int,
    longest_k: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v from those of both outputs of `flash`."""
    sides = Sides(q, k, v, mask, first_q, first_k, longest_q, longest_k)
    new = torch.empty_like if first_q is None else torch.zeros_like
    grads = new(q), new(k), new(v)
    _backward(sides, d_out, d_lse, out, lse, grads)
    return grads


@flash_backward.register_fake
def _(d_out, d_lse, q, k, v, *rest):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


@torch.library.custom_op("videogen::flash_packed", mutates_args=())
def flash_packed(qkv: Tensor, mask: Tensor | None, knobs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`flash` of one tensor (G, J, N, I, 3, heads, head_dim), a projection as it comes."""
    sides = _unpacked(qkv, mask)
    out, lse = _outputs(sides)
    _forward(sides, out, lse, knobs)
    return out, lse


@flash_packed.register_fake
def _(qkv, mask, knobs):
    sides = _unpacked(qkv, mask)
    return torch.empty_like(sides.q), sides.new_lse()


@torch.library.custom_op("videogen::flash_packed_backward", mutates_args=())
def flash_packed_backward(
    d_out: Tensor, d_lse: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, mask: Tensor | None
) -> Tensor:
    """The gradient of qkv from those of both outputs of `flash_packed`."""
    d_qkv = torch.empty_like(qkv)
    _backward(_unpacked(qkv, mask), d_out, d_lse, out, lse, d_qkv.unbind(4))
    return d_qkv


@flash_packed_backward.register_fake
def _(d_out, d_lse, qkv, out, lse, mask):
    return torch.empty_like(qkv)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, mask, first_q, first_k, ctx.longest_q, ctx.longest_k, _ = inputs
    ctx.save_for_backward(q, k, v, *output, mask, first_q, first_k)


def _differentiate(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    grads = flash_backward(d_out, d_lse, *ctx.saved_tensors, ctx.longest_q, ctx.longest_k)
    return *grads, None, None, None, None, None, None


def _save_packed(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, mask, _ = inputs
    ctx.save_for_backward(qkv, *output, mask)


def _differentiate_packed(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    return flash_packed_backward(d_out, d_lse, *ctx.saved_tensors), None, None


flash.register_autograd(_differentiate, setup_context=_save)
flash_packed.register_autograd(_differentiate_packed, setup_context=_save_packed)


def _unpacked(qkv: Tensor, mask: Tensor | None) -> Sides:
    q, k, v = qkv.unbind(4)
    return Sides(q, k, v, mask, None, None, 0, 0)


def _outputs(sides: Sides) -> tuple[Tensor, Tensor]:
    # tokens outside of all segments are nobody's work
    out = torch.empty_like(sides.q) if sides.first_q is None else torch.zeros_like(sides.q)
    lse = sides.new_lse()
    return out, lse if sides.first_q is None else lse.fill_(-math.inf)


def tile_of(kernel: Pass, sides: Sides, knobs: Sequence[int] = ()) -> tuple[Tile, int]:
    """The tile on which a kernel works, and how many groups share it."""
    queries, keys = sides.lengths
    given = dict(zip(Tile._fields, knobs, strict=False))
    free = not (given.get("block_m") or given.get("block_n"))
    capability, shared = card(sides.q.device)
    width, itemsize = padded(sides.q.shape[-1]), sides.q.element_size()
    rows = pack = 1
    if free and sides.first_q is None:
        rows = packed_rows(kernel, width, itemsize, capability, max(queries, keys))
        pack = packing(queries, keys, sides.groups, sides.mask_kind, rows)
    # to find tokens on two axes takes registers as a mask of pairs does
    alike = FULL_MASK if sides.q.shape[3] > 1 and pack == 1 else sides.mask_kind
    rows = 0 if pack == 1 else rows
    tile = choose_tile(kernel, width, itemsize, alike, capability=capability, shared=shared, rows=rows)
    if pack == 1:
        tile = fitted(tile, queries, keys)
    return tile._replace(**{knob: value for knob, value in given.items() if value}), pack


def _forward(sides: Sides, out: Tensor, lse: Tensor, knobs: Sequence[int]) -> None:
    if any(knobs[4:]):
        given = {name: size for name, size in zip(Tile._fields, knobs, strict=False) if size}
        forward_described(sides, out, lse, given)
        return
    tile, pack = tile_of("forward", sides, knobs)
    tensors = (sides.q, sides.k, sides.v, out)
    _launch(flash_forward, sides, (*tensors, lse), tensors, sides.lengths[0], tile.block_m, tile, pack)


def _backward(sides: Sides, d_out: Tensor, d_lse: Tensor, out: Tensor, lse: Tensor, grads: Sequence[Tensor]) -> None:
    if not _alike(d_out, out):
        d_out = torch.empty_like(out).copy_(d_out)
    delta = d_lse.to(lse.dtype).neg().contiguous()
    d_q, d_k, d_v = grads
    backward_queries(sides, d_out, out, lse, delta, d_q)
    backward_keys(sides, d_out, lse, delta, d_k, d_v)


def backward_queries(
    sides: Sides, d_out: Tensor, out: Tensor, lse: Tensor, delta: Tensor, d_q: Tensor, knobs: Sequence[int] = ()
) -> None:
    """Fill d_q, and complete delta, minus the gradient of lse; d_out lies as out does. `knobs` as in `flash`."""
    tile, pack = tile_of("queries", sides, knobs)
    q, k, v = sides[:3]
    pointers = (q, k, v, out, d_out, d_q, lse, delta)
    _launch(flash_backward_queries, sides, pointers, (q, k, v, out, d_q), sides.lengths[0], tile.block_m, tile, pack)


def backward_keys(
    sides: Sides, d_out: Tensor, lse: Tensor, delta: Tensor, d_k: Tensor, d_v: Tensor, knobs: Sequence[int] = ()
) -> None:
    """Fill d_k and d_v with the delta that `backward_queries` completed."""
    tile, pack = tile_of("keys", sides, knobs)
    q, k, v = sides[:3]
    pointers = (q, k, v, d_out, d_k, d_v, lse, delta)
    _launch(
        flash_backward_keys, sides, pointers, (q, k, v, d_out, d_k, d_v), sides.lengths[1], tile.block_n, tile, pack
    )


def _launch(
    kernel: Any,
    sides: Sides,
    pointers: Sequence[Tensor],
    strided: Sequence[Tensor],
    length: int,
    block: int,
    tile: Tile,
    pack: int,
) -> None:
    """Run a kernel with a program for `block` of the `length` rows of each head and group, or each pack of groups."""
    heads, head_dim = sides.q.shape[4:]
    programs = triton.cdiv(length, block) * heads * triton.cdiv(sides.groups, pack)
    if not programs:
        return
    bits, mask_strides = sides.mask_bits()
    first_q, first_k = (sides.q if first is None else first for first in (sides.first_q, sides.first_k))
    queries, keys = sides.lengths
    with torch.cuda.device(sides.q.device) if sides.q.is_cuda else contextlib.nullcontext():
        kernel[(programs,)](
            *(*pointers, bits, first_q, first_k, head_dim**-0.5 * math.log2(math.e)),
            *(stride for x in strided for stride in sides.strides(x)),
            *mask_strides,
            *((heads * queries, queries) if sides.first_q is None else (0, sides.q.shape[2])),
            *(heads, sides.groups, sides.q.shape[1], queries, sides.q.shape[3], keys, sides.k.shape[3]),
            HEAD_DIM=head_dim,
            D=padded(head_dim),
            BLOCK_M=tile.block_m,
            BLOCK_N=tile.block_n,
            PACK=pack,
            MASK=sides.mask_kind,
            RAGGED=sides.first_q is not None,
            UPCAST=INTERPRETED and sides.q.dtype == torch.bfloat16,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )


def _alike(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors of one shape lie in memory alike."""
    return all(a == b or size == 1 for a, b, size in zip(x.stride(), y.stride(), x.shape, strict=True))

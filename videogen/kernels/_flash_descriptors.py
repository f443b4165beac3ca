"""Launching FlashAttention by tensor descriptors: what they can't describe, their making, and the forms that ship."""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from videogen.kernels._flash_described import flash_forward_described
from videogen.kernels._flash_forward import FULL_MASK, KEY_MASK, NO_MASK
from videogen.kernels._flash_tiles import Tile, choose_tile
from videogen.kernels._triton import INTERPRETED, SHARED, card, padded
from videogen.kernels._variants import Variant

if TYPE_CHECKING:
    from videogen.kernels._flash import Sides

#: the first compute capability with the memory accelerator; what its addresses and strides are multiples of, in bytes
FIRST_CARD, STEP = 90, 16
DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


def refusal(sides: Sides, capability: int) -> str | None:
    """Why a call can't go by tensor descriptors on a card of this compute capability; None where it can."""
    if capability < FIRST_CARD:
        return f"need compute capability 9.0 (Hopper) or later, and this card has {capability / 10:.1f}"
    if sides.first_q is not None:
        return "don't take segments, whose ends they would cross"
    if sides.mask_kind == FULL_MASK:
        return "take a mask of keys, not one of pairs"
    if sides.q.shape[3] > 1 or sides.k.shape[3] > 1:
        return "take the tokens of a group on one axis, not on two"
    if sides.q.dtype not in DTYPES:
        return f"take float16, bfloat16 and float32, not {str(sides.q.dtype).removeprefix('torch.')}"
    for name, x in zip("qkv", sides[:3], strict=True):
        size = x.element_size()
        for length, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True):
            if length > 1 and (stride <= 0 or stride * size % STEP):
                return f"take strides of multiples of {STEP} bytes, and {name} has one of {stride * size}"
        if x.data_ptr() % STEP:
            return f"take addresses of multiples of {STEP}, and {name} begins {x.data_ptr() % STEP} bytes behind one"
    return None


def describe(x: Tensor, block: int) -> TensorDescriptor:
    """(G, J, N, 1, heads, head_dim) as five axes, read in tiles of `block` tokens of one head."""
    shape = [*x.shape[:3], *x.shape[4:]]
    strides = [*x.stride()[:3], *x.stride()[4:]]
    # the stride of an axis of one is arbitrary, and yet it is looked at
    strides = [STEP if length == 1 else stride for length, stride in zip(shape[:-1], strides, strict=False)] + [1]
    return TensorDescriptor(x, shape, strides, [1, 1, block, 1, padded(x.shape[-1])])


def forward_described(sides: Sides, out: Tensor, lse: Tensor, given: dict[str, int]) -> None:
    """The forward pass; `given` are fields of a tile that aren't to be chosen.

    Raises:
        ValueError: a card or a layout that descriptors don't fit.
    """
    capability, shared = card(sides.q.device)
    reason = refusal(sides, FIRST_CARD if INTERPRETED else capability)
    if reason is not None:
        raise ValueError(f"tensor descriptors {reason}: leave attention.descriptors off, pointers take any layout")
    (queries, keys), (heads, head_dim) = sides.lengths, sides.q.shape[4:]
    width, kind = padded(head_dim), sides.mask_kind
    tile = choose_tile("forward", width, sides.q.element_size(), kind, capability=capability, shared=shared)
    tile = tile._replace(**given)
    programs = triton.cdiv(queries, tile.block_m) * heads * sides.groups
    if not keys:
        out.zero_()
        lse.fill_(-math.inf)
    if not (programs and keys):
        return
    bits, strides = sides.mask_bits()
    descriptors = (describe(sides.q, tile.block_m), *(describe(x, tile.block_n) for x in (sides.k, sides.v)))
    with torch.cuda.device(sides.q.device) if sides.q.is_cuda else contextlib.nullcontext():
        flash_forward_described[(programs,)](
            *(*descriptors, describe(out, tile.block_m), lse, bits, head_dim**-0.5 * math.log2(math.e)),
            *(*strides[:3], strides[4], heads * queries, queries, heads, sides.q.shape[1], queries, keys),
            D=width,
            BLOCK_M=tile.block_m,
            BLOCK_N=tile.block_n,
            MASK=kind,
            UPCAST=INTERPRETED and sides.q.dtype == torch.bfloat16,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )


def shipped(capability: int) -> list[Variant]:
    """Each head_dim without a mask and with one of keys, in bfloat16 and float16; none before Hopper."""
    if capability < FIRST_CARD:
        return []
    cases = [("bf16", head_dim, NO_MASK) for head_dim in (32, 64, 72, 96, 128, 256)]
    cases += [("bf16", 64, KEY_MASK), ("bf16", 128, KEY_MASK), ("fp16", 64, NO_MASK), ("fp16", 128, NO_MASK)]
    return [_variant(capability, *case) for case in cases]


def _variant(capability: int, dtype: str, head_dim: int, kind: int) -> Variant:
    width = padded(head_dim)
    tile: Tile = choose_tile("forward", width, 2, kind, capability=capability, shared=SHARED[capability])
    fixed: dict[str, Any] = {"D": width, "BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n, "MASK": kind}
    fixed |= {"UPCAST": False} | ({"s_ml": 1} if kind == KEY_MASK else {})
    left = [name for name in flash_forward_described.arg_names if name not in fixed]
    types = dict.fromkeys(left, "i32") | {"scale_log2": "fp32", "p_lse": "*fp32"}
    types["p_mask"] = f"*{dtype}" if kind == NO_MASK else "*u8"
    for name, block in (("d_q", tile.block_m), ("d_k", tile.block_n), ("d_v", tile.block_n), ("d_o", tile.block_m)):
        types[name] = f"tensordesc<{dtype}[1, 1, {block}, 1, {width}]>"
    title = f"flash_forward_described {dtype} {head_dim} {'dense' if kind == NO_MASK else 'key mask'}"
    return Variant(title, flash_forward_described, types, fixed, ("p_lse", "p_mask"), tile.num_warps, tile.num_stages)

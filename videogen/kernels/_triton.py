"""What the Triton kernels share: whether they run in the interpreter, how a tile is loaded and where its rows lie."""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

# shared memory of one block, in bytes, on the smallest cards with the tensor-core path (compute capability 8.6, 8.9)
SMALLEST_SHARED = 101_376
# the same on the cards for which kernels ship, by compute capability
SHARED = {80: 166_912, 90: 232_448, 100: 232_448}


@triton.jit
def load_tile(p_tile, m_first, m_second, CHECK_FIRST: tl.constexpr, CHECK_SECOND: tl.constexpr):
    """Load a tile with zeros outside; an axis that is known to be inside costs no predicate."""
    if CHECK_FIRST and CHECK_SECOND:
        b_tile = tl.load(p_tile, mask=m_first & m_second, other=0)
    elif CHECK_FIRST:
        b_tile = tl.load(p_tile, mask=m_first, other=0)
    elif CHECK_SECOND:
        b_tile = tl.load(p_tile, mask=m_second, other=0)
    else:
        b_tile = tl.load(p_tile)
    return b_tile


@triton.jit
def place_rows(i_g, start, length, groups, BLOCK: tl.constexpr, PACK: tl.constexpr):
    """The group and the token that each row of a tile holds, and whether there is one.

    BLOCK tokens of one group from `start`, or PACK short groups one behind another, each filled up to BLOCK / PACK.
    """
    o_row = tl.arange(0, BLOCK)
    if PACK == 1:
        o_g = i_g
        o_n = start + o_row
        m_n = o_n < length
    else:
        o_g = i_g * PACK + o_row // (BLOCK // PACK)
        o_n = o_row % (BLOCK // PACK)
        m_n = (o_n < length) & (o_g < groups)
    return o_g, o_n, m_n


@triton.jit
def offset_two(index, inner, s_outer, s_inner):
    """Offset of a flat index over two axes, the second `inner` long, in 64 bits: a video's strides pass 2**31."""
    return (index // inner).to(tl.int64) * s_outer + (index % inner).to(tl.int64) * s_inner


@triton.jit
def offset_rows(o_g, o_n, inner_groups, inner_tokens, s_x):
    """Offsets of tokens of groups, both over two axes: s_x are the strides of all four."""
    return offset_two(o_g, inner_groups, s_x[0], s_x[1]) + offset_two(o_n, inner_tokens, s_x[2], s_x[3])


@triton.jit
def load_rows(p_x, w_row, m_row, HEAD_DIM: tl.constexpr, D: tl.constexpr, CHECK: tl.constexpr, UPCAST: tl.constexpr):
    """A tile (rows, D) of rows at offsets w_row, with zeros behind HEAD_DIM and, where CHECK, outside of m_row."""
    o_d = tl.arange(0, D)
    p_tile = p_x + w_row[:, None] + o_d[None, :]
    b_tile = load_tile(p_tile, m_row[:, None], (o_d < HEAD_DIM)[None, :], CHECK, HEAD_DIM != D)
    if UPCAST:
        b_tile = b_tile.to(tl.float32)
    return b_tile


@triton.jit
def store_rows(p_x, w_row, b_tile, m_row, HEAD_DIM: tl.constexpr, D: tl.constexpr):
    """Write a tile (rows, D) to offsets w_row, in the type of p_x."""
    o_d = tl.arange(0, D)
    p_tile = p_x + w_row[:, None] + o_d[None, :]
    tl.store(p_tile, b_tile.to(p_x.dtype.element_ty), mask=m_row[:, None] & (o_d < HEAD_DIM)[None, :])


@triton.jit
def finite_rows(b_tile):
    """A tile (rows, D) with zeros for what isn't finite, and of each row whether anything was not."""
    m_finite = tl.abs(b_tile.to(tl.float32)) < float("inf")
    return tl.where(m_finite, b_tile, 0.0), tl.min(m_finite.to(tl.int32), 1) == 0


# with TRITON_INTERPRET=1 triton's decorator gives something else than a JITFunction
INTERPRETED = not isinstance(load_tile, triton.JITFunction)


@functools.lru_cache
def card(device: torch.device) -> tuple[int, int]:
    """The compute capability of a device, as 80 or 90, and its shared memory for one block in bytes."""
    if device.type != "cuda":
        return 80, SMALLEST_SHARED
    properties = torch.cuda.get_device_properties(device)
    shared = getattr(properties, "shared_memory_per_block_optin", SMALLEST_SHARED)
    return 10 * properties.major + properties.minor, shared


def padded(size: int) -> int:
    """`size` as a side of a tensor-core product: the next power of two, and no less than 16."""
    power: int = triton.next_power_of_2(size)
    return max(16, power)

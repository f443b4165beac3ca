"""Attention as one Triton kernel: FlashAttention forward on strided tensors, any head_dim up to 256, both masks."""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import contextlib
import functools
import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from videogen.kernels import ATTENTION, Support
from videogen.kernels._shared import check

# what the kernel is told about its mask: the values of MASK below
NO_MASK, KEY_MASK, FULL_MASK = 0, 1, 2


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
def attend_tile(
    b_q, b_acc, b_max, b_sum,
    p_k, p_v, p_mask, s_mn, s_ml,
    o_row, o_n, m_l, m_d,
    scale_log2,
    TAIL: tl.constexpr, PADDED: tl.constexpr, MASK: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One step of the online softmax: the state (b_acc, b_max, b_sum) after BLOCK_N more keys.

    `b_max` is in units of log2: scores are scaled by log2(e) / sqrt(head_dim) and exp2 replaces exp.
    """
    # [D, BLOCK_N]
    b_k = load_tile(p_k, m_l[None, :], m_d[:, None], TAIL, PADDED)
    # [BLOCK_N, D]
    b_v = load_tile(p_v, m_l[:, None], m_d[None, :], TAIL, PADDED)
    if UPCAST:
        b_k = b_k.to(tl.float32)
        b_v = b_v.to(tl.float32)
    # ieee: float32 inputs stay float32, not TF32; it means nothing to the 16-bit types
    b_s = tl.dot(b_q, b_k, input_precision="ieee")
    if TAIL:
        b_s = tl.where(m_l[None, :], b_s, float("-inf"))
    if MASK == 1:
        # [BLOCK_N]
        b_keep = load_tile(p_mask + o_n * s_ml, m_l, m_l, TAIL, False)
        b_s = tl.where((b_keep != 0)[None, :], b_s, float("-inf"))
    if MASK == 2:
        p_keep = p_mask + o_row[:, None] * s_mn + o_n[None, :] * s_ml
        # [BLOCK_M, BLOCK_N]
        b_keep = load_tile(p_keep, m_l[None, :], m_l[None, :], TAIL, False)
        b_s = tl.where(b_keep != 0, b_s, float("-inf"))
    b_new = tl.maximum(b_max, tl.max(b_s, 1) * scale_log2)
    b_base = b_new
    if MASK != 0:
        # a row that has met no key yet: -inf - -inf would be NaN
        b_base = tl.where(b_new == float("-inf"), 0.0, b_new)
    # scale and subtraction are one fused multiply-add
    b_p = tl.exp2(b_s * scale_log2 - b_base[:, None])
    b_alpha = tl.exp2(b_max - b_base)
    b_sum = b_sum * b_alpha + tl.sum(b_p, 1)
    b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_alpha[:, None], input_precision="ieee")
    return b_acc, b_new, b_sum


@triton.jit
def flash_forward(
    p_q, p_k, p_v, p_o, p_mask,
    scale_log2,
    s_qb, s_qh, s_qn, s_qd,
    s_kb, s_kh, s_kl, s_kd,
    s_vb, s_vh, s_vl, s_vd,
    s_ob, s_oh, s_on, s_od,
    s_mb, s_mh, s_mn, s_ml,
    heads, queries, keys,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    MASK: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """BLOCK_M queries of one head against all keys, non-causal; every stride is free.

    D is HEAD_DIM padded to a power of two. MASK: 0 none, 1 one row of keys (s_mn unused), 2 a row for each query.
    UPCAST is for the interpreter alone: it keeps bfloat16 as bit patterns, and its tl.dot multiplies those.
    """
    # one grid axis: the second of CUDA's ends at 65535, which frames * heads of a factorised video exceeds
    blocks = tl.cdiv(queries, BLOCK_M)
    i_m = tl.program_id(0) % blocks
    i_bh = tl.program_id(0) // blocks
    i_b = (i_bh // heads).to(tl.int64)
    i_h = (i_bh % heads).to(tl.int64)

    row = i_m * BLOCK_M
    o_m = tl.arange(0, BLOCK_M)
    o_n = tl.arange(0, BLOCK_N)
    o_d = tl.arange(0, D)
    m_n = row + o_m < queries
    m_d = o_d < HEAD_DIM
    PADDED: tl.constexpr = HEAD_DIM != D

    # token offsets are 64-bit: the stride over frames of a strided video view, times a few frames, passes 2**31
    w_m = row.to(tl.int64) + o_m
    w_n = o_n.to(tl.int64)
    p_q += i_b * s_qb + i_h * s_qh + w_m[:, None] * s_qn + o_d[None, :] * s_qd
    p_k += i_b * s_kb + i_h * s_kh + w_n[None, :] * s_kl + o_d[:, None] * s_kd
    p_v += i_b * s_vb + i_h * s_vh + w_n[:, None] * s_vl + o_d[None, :] * s_vd
    # a scalar, not a tile of pointers: BLOCK_M x BLOCK_N addresses kept over the loop would spill
    p_mask += i_b * s_mb + i_h * s_mh + row.to(tl.int64) * s_mn
    # rows past the end read the mask of the first row, which exists, and so need no predicate
    o_row = tl.where(m_n, o_m, 0)

    # [BLOCK_M, D]
    b_q = load_tile(p_q, m_n[:, None], m_d[None, :], True, PADDED)
    if UPCAST:
        b_q = b_q.to(tl.float32)
    b_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    b_acc = tl.zeros([BLOCK_M, D], tl.float32)

    # the step is 64-bit for the same reason as the offsets
    step = tl.full([], BLOCK_N, tl.int64)
    # whole tiles need no bound on the keys; only the last, partial one pays for it
    whole = keys // BLOCK_N * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        m_l = start + o_n < keys
        b_acc, b_max, b_sum = attend_tile(
            b_q, b_acc, b_max, b_sum, p_k, p_v, p_mask, s_mn, s_ml, o_row, o_n, m_l, m_d, scale_log2,
            TAIL=False, PADDED=PADDED, MASK=MASK, UPCAST=UPCAST,
        )  # fmt: skip
        p_k += step * s_kl
        p_v += step * s_vl
        if MASK != 0:
            p_mask += step * s_ml
    if whole < keys:
        m_l = whole + o_n < keys
        b_acc, b_max, b_sum = attend_tile(
            b_q, b_acc, b_max, b_sum, p_k, p_v, p_mask, s_mn, s_ml, o_row, o_n, m_l, m_d, scale_log2,
            TAIL=True, PADDED=PADDED, MASK=MASK, UPCAST=UPCAST,
        )  # fmt: skip

    # a query that may attend to nothing has summed nothing: 0 / 1, not 0 / 0
    b_acc = b_acc / tl.where(b_sum == 0.0, 1.0, b_sum)[:, None]
    # [BLOCK_M, D]
    p_tile = p_o + i_b * s_ob + i_h * s_oh + w_m[:, None] * s_on + o_d[None, :] * s_od
    tl.store(p_tile, b_acc.to(p_o.dtype.element_ty), mask=m_n[:, None] & m_d[None, :])


# with TRITON_INTERPRET=1 triton's decorator gives something else than a JITFunction
INTERPRETED = not isinstance(flash_forward, triton.JITFunction)

# shared memory of one block, in bytes, on the smallest cards with the tensor-core path (compute capability 8.6, 8.9)
SMALLEST_SHARED = 101_376


class Tile(NamedTuple):
    """Queries and keys of one step, and how many warps and pipeline stages work on it."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


# by padded head_dim, then without or with a full mask: large tiles that ptxas 12.9 compiles for 16-bit inputs without
# spilling, read from its report and not timed (on Ampere a key mask at head_dim 256 spills 16 bytes)
AMPERE_TILES = {
    64: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 3)),
    128: (Tile(128, 32, 8, 2), Tile(128, 16, 8, 2)),
    256: (Tile(32, 32, 8, 2), Tile(32, 16, 8, 2)),
}
HOPPER_TILES = {
    64: (Tile(128, 128, 8, 3), Tile(128, 64, 8, 3)),
    128: (Tile(128, 64, 8, 3), Tile(64, 64, 8, 2)),
    256: (Tile(64, 64, 8, 2), Tile(64, 32, 8, 2)),
}


def choose_tile(width: int, itemsize: int, mask_kind: int, *, hopper: bool, shared: int) -> Tile:
    """The tile for a padded head_dim `width`, made smaller until its buffers fit `shared` bytes of shared memory."""
    tile = (HOPPER_TILES if hopper else AMPERE_TILES)[max(64, width)][mask_kind == FULL_MASK]
    if itemsize == 4:
        # float32 has no tensor cores at full precision: operands and products all sit in registers
        tile = Tile(min(64, tile.block_m), min(32, tile.block_n), tile.num_warps, 2)
    while shared_bytes(tile, width, itemsize, mask_kind) > shared:
        if tile.num_stages > 1:
            tile = tile._replace(num_stages=tile.num_stages - 1)
        elif tile.block_n > 16:
            tile = tile._replace(block_n=tile.block_n // 2)
        elif tile.block_m > 16:
            tile = tile._replace(block_m=tile.block_m // 2)
        else:
            raise ValueError(f"no tile of head_dim {width} fits {shared} bytes of shared memory: use attention=sdpa")
    return tile


def shared_bytes(tile: Tile, width: int, itemsize: int, mask_kind: int) -> int:
    """Upper bound of the shared memory of a tile: queries once, keys, values and a full mask once a stage."""
    staged = 2 * tile.block_n * width * itemsize + (tile.block_m * tile.block_n if mask_kind == FULL_MASK else 0)
    return tile.block_m * width * itemsize + tile.num_stages * staged


@functools.lru_cache
def _card(device: torch.device) -> tuple[bool, int]:
    """Whether a card has Hopper's matrix instructions, and its shared memory for one block in bytes."""
    if device.type != "cuda":
        return False, SMALLEST_SHARED
    properties = torch.cuda.get_device_properties(device)
    return properties.major == 9, getattr(properties, "shared_memory_per_block_optin", SMALLEST_SHARED)


@ATTENTION.register("triton")
class TritonAttention:
    """FlashAttention-2 forward, non-causal, on tensors of any strides; it has no backward yet.

    https://arxiv.org/abs/2307.08691, algorithm 1, with exp2 for exp and the scale folded into its argument. A head_dim
    that is no power of two is padded to the next: 72 costs what 128 costs.

    Args:
        block_m: queries of one program, a power of two from 16; None chooses by head_dim and card.
        block_n: keys of one step, a power of two from 16; None chooses.
        num_warps: warps of one program, a power of two; None chooses.
        num_stages: steps whose loads are in flight; None chooses.
    """

    support = Support(
        dtypes=frozenset({"float16", "bfloat16", "float32"}),
        devices=frozenset({"cpu", "cuda"}) if INTERPRETED else frozenset({"cuda"}),
        max_head_dim=256,
        mask=True,
        backward=False,
    )

    def __init__(
        self,
        *,
        block_m: int | None = None,
        block_n: int | None = None,
        num_warps: int | None = None,
        num_stages: int | None = None,
    ) -> None:
        for knob, value, least in (("block_m", block_m, 16), ("block_n", block_n, 16), ("num_warps", num_warps, 1)):
            if value is not None and (value < least or value & (value - 1)):
                raise ValueError(f"{knob}={value} is not a power of two from {least}: try {least}, or None to choose")
        if num_stages is not None and num_stages < 1:
            raise ValueError(f"num_stages={num_stages} is less than 1: try 2, or None to choose")
        self.given = {
            knob: value
            for knob, value in zip(Tile._fields, (block_m, block_n, num_warps, num_stages), strict=True)
            if value is not None
        }

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim).

        Args:
            mask: (B, L) or (B, 1 or heads, 1 or N, L) bool, True = attend; a query that attends to nothing gets zeros.

        Raises:
            ValueError: shapes, dtype, device, head_dim or mask that don't fit, or an input that requires grad.
        """
        if not INTERPRETED and q.device.type != "cuda":
            raise ValueError(
                "attention 'triton' needs a CUDA device, or TRITON_INTERPRET=1 in the environment, set before Python "
                f"starts (slow, for tests); the inputs are on {q.device}: use attention=sdpa"
            )
        q, k, v, mask = check("triton", self.support, q, k, v, mask)
        out = torch.empty_like(q)
        if out.numel():
            with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
                self._launch(q, k, v, out, mask)
        return out

    def tile(self, q: Tensor, keys: int, mask_kind: int) -> Tile:
        """The tile that runs: chosen, no larger than the sequences need, then the given knobs."""
        hopper, shared = _card(q.device)
        tile = choose_tile(_width(q.shape[-1]), q.element_size(), mask_kind, hopper=hopper, shared=shared)
        tile = tile._replace(
            block_m=min(tile.block_m, _width(q.shape[2])), block_n=min(tile.block_n, _width(max(1, keys)))
        )
        return tile._replace(**self.given)

    def _launch(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, mask: Tensor | None) -> None:
        (batch, heads, queries, head_dim), keys = q.shape, k.shape[2]
        bits, mask_kind = q, NO_MASK
        mask_strides: tuple[int, ...] = (0, 0, 0, 0)
        if mask is not None:
            # a mask that is the same for all queries is read as one row; the strides of broadcast axes are zero
            mask_kind = KEY_MASK if mask.shape[2] == 1 else FULL_MASK
            bits = mask.view(torch.uint8)
            mask_strides = bits.expand(batch, heads, queries, keys).stride()
        tile = self.tile(q, keys, mask_kind)
        flash_forward[(triton.cdiv(queries, tile.block_m) * batch * heads,)](
            *(q, k, v, out, bits, head_dim**-0.5 * math.log2(math.e)),
            *(*q.stride(), *k.stride(), *v.stride(), *out.stride(), *mask_strides),
            *(heads, queries, keys),
            HEAD_DIM=head_dim,
            D=_width(head_dim),
            BLOCK_M=tile.block_m,
            BLOCK_N=tile.block_n,
            MASK=mask_kind,
            UPCAST=INTERPRETED and q.dtype == torch.bfloat16,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )


def _width(size: int) -> int:
    # 16 is the least that a tensor-core product takes along any axis
    power: int = triton.next_power_of_2(size)
    return max(16, power)

"""Norms of queries and keys and their rotation in one pass over the packed projection, forward and backward."""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from videogen.kernels._variants import Variant
from videogen.kernels.fused._launch import power, warps

# the values of NORM and of ROPE below
NORMS = {"none": 0, "rms": 1, "layer": 2}
NO_TURNS, SHARED_TURNS, TURNS_OF_HEADS = 0, 1, 2
#: runs of channels that a kernel tells apart
MOST_RUNS = 4


@triton.jit
def _first_and_second(o_p, H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr):
    """The two channels of each pair: pair p of a run of 2 h channels that starts at 2 b is 2 b + p - b, and h on."""
    if H0 == 0:
        o_first = 2 * o_p
        o_second = 2 * o_p + 1
    else:
        o_first = o_p
        o_second = o_p + H0
    if H1 > 0:
        o_first = tl.where(o_p >= H0, o_p + H0, o_first)
        o_second = tl.where(o_p >= H0, o_p + H0 + H1, o_second)
    if H2 > 0:
        o_first = tl.where(o_p >= H0 + H1, o_p + H0 + H1, o_first)
        o_second = tl.where(o_p >= H0 + H1, o_p + H0 + H1 + H2, o_second)
    if H3 > 0:
        o_first = tl.where(o_p >= H0 + H1 + H2, o_p + H0 + H1 + H2, o_first)
        o_second = tl.where(o_p >= H0 + H1 + H2, o_p + H0 + H1 + H2 + H3, o_second)
    return o_first, o_second


@triton.jit
def _load_pairs(
    p_x, s_h, HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr,
):  # fmt: skip
    """First and second channel of every pair of every head, zeros outside, as two tiles."""
    o_h = tl.arange(0, BLOCK_H)
    m_h = o_h < HEADS
    if H0 == 0:
        # neighbours arrive in one wide load and are told apart in registers
        o_c = tl.arange(0, 2 * BLOCK_P)
        # [BLOCK_H, 2 BLOCK_P]
        b_x = tl.load(p_x + o_h[:, None] * s_h + o_c[None, :], mask=m_h[:, None] & (o_c < 2 * PAIRS)[None, :], other=0)
        b_0, b_1 = tl.split(tl.reshape(b_x, [BLOCK_H, BLOCK_P, 2]))
    else:
        o_p = tl.arange(0, BLOCK_P)
        o_first, o_second = _first_and_second(o_p, H0, H1, H2, H3)
        m_x = m_h[:, None] & (o_p < PAIRS)[None, :]
        # [BLOCK_H, BLOCK_P]
        b_0 = tl.load(p_x + o_h[:, None] * s_h + o_first[None, :], mask=m_x, other=0)
        # [BLOCK_H, BLOCK_P]
        b_1 = tl.load(p_x + o_h[:, None] * s_h + o_second[None, :], mask=m_x, other=0)
    return b_0, b_1


@triton.jit
def _store_pairs(
    p_y, b_0, b_1, HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr,
):  # fmt: skip
    """The inverse of `_load_pairs`, to contiguous heads."""
    o_h = tl.arange(0, BLOCK_H)
    m_h = o_h < HEADS
    b_0 = b_0.to(p_y.dtype.element_ty)
    b_1 = b_1.to(p_y.dtype.element_ty)
    if H0 == 0:
        o_c = tl.arange(0, 2 * BLOCK_P)
        p_tile = p_y + o_h[:, None] * (2 * PAIRS) + o_c[None, :]
        tl.store(p_tile, tl.interleave(b_0, b_1), mask=m_h[:, None] & (o_c < 2 * PAIRS)[None, :])
    else:
        o_p = tl.arange(0, BLOCK_P)
        o_first, o_second = _first_and_second(o_p, H0, H1, H2, H3)
        m_y = m_h[:, None] & (o_p < PAIRS)[None, :]
        tl.store(p_y + o_h[:, None] * (2 * PAIRS) + o_first[None, :], b_0, mask=m_y)
        tl.store(p_y + o_h[:, None] * (2 * PAIRS) + o_second[None, :], b_1, mask=m_y)


@triton.jit
def _head_sum(b_0, b_1, ACROSS: tl.constexpr):
    """The sum over a head's channels, or over those of all heads, for each head: [BLOCK_H, 1]."""
    b_sum = tl.sum(b_0 + b_1, 1)
    if ACROSS:
        b_sum = tl.zeros_like(b_sum) + tl.sum(b_sum, 0)
    return b_sum[:, None]


@triton.jit
def _weights(
    p_w, ACROSS: tl.constexpr, HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr,
):  # fmt: skip
    """Weights of both channels of each pair: of each head, or [1, BLOCK_P] of one for all."""
    if ACROSS:
        b_0, b_1 = _load_pairs(p_w, 2 * PAIRS, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)
    else:
        b_0, b_1 = _load_pairs(p_w, 0, 1, PAIRS, 1, BLOCK_P, H0, H1, H2, H3)
    return b_0, b_1


@triton.jit
def _normalised(b_0, b_1, eps, NORM: tl.constexpr, ACROSS: tl.constexpr, HEADS: tl.constexpr, PAIRS: tl.constexpr,
                BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr):  # fmt: skip
    """x / sqrt(mean square), or (x - mean) / sqrt(variance), and the reciprocal of the root."""
    count = 2 * PAIRS * (HEADS if ACROSS else 1)
    if NORM == 2:
        b_mean = _head_sum(b_0, b_1, ACROSS) / count
        # what lies outside must stay zero
        m_x = (tl.arange(0, BLOCK_H) < HEADS)[:, None] & (tl.arange(0, BLOCK_P) < PAIRS)[None, :]
        b_0 = tl.where(m_x, b_0 - b_mean, 0.0)
        b_1 = tl.where(m_x, b_1 - b_mean, 0.0)
    b_rstd = tl.rsqrt(_head_sum(b_0 * b_0, b_1 * b_1, ACROSS) / count + eps)
    return b_0 * b_rstd, b_1 * b_rstd, b_rstd


@triton.jit
def _turns(
    p_cos, p_sin, s_h, HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr,
):  # fmt: skip
    """Cosine and sine of each pair's angle: the table holds them twice, and the sine of the second as it is.

    Of each head, or [1, BLOCK_P] with BLOCK_H = 1.
    """
    o_h = tl.arange(0, BLOCK_H)
    o_p = tl.arange(0, BLOCK_P)
    o_first, o_second = _first_and_second(o_p, H0, H1, H2, H3)
    m_t = (o_h < HEADS)[:, None] & (o_p < PAIRS)[None, :]
    # [BLOCK_H, BLOCK_P]
    b_cos = tl.load(p_cos + o_h[:, None] * s_h + o_first[None, :], mask=m_t, other=0)
    # [BLOCK_H, BLOCK_P]
    b_sin = tl.load(p_sin + o_h[:, None] * s_h + o_second[None, :], mask=m_t, other=0)
    return b_cos, b_sin


@triton.jit
def _forward_one(
    p_x, p_y, p_w, p_b, p_cos, p_sin, s_h, s_ch, eps,
    HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    NORM: tl.constexpr, ACROSS: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, ROPE: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    b_0, b_1 = _load_pairs(p_x, s_h, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)
    b_0 = b_0.to(WIDE)
    b_1 = b_1.to(WIDE)
    if NORM != 0:
        b_0, b_1, _ = _normalised(b_0, b_1, eps, NORM, ACROSS, HEADS, PAIRS, BLOCK_H, BLOCK_P)
    if WEIGHT:
        b_w0, b_w1 = _weights(p_w, ACROSS, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)
        b_0 = b_0 * b_w0.to(WIDE)
        b_1 = b_1 * b_w1.to(WIDE)
    if BIAS:
        b_b0, b_b1 = _weights(p_b, ACROSS, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)
        b_0 = b_0 + b_b0.to(WIDE)
        b_1 = b_1 + b_b1.to(WIDE)
    if ROPE != 0:
        b_cos, b_sin = _turns(
            p_cos, p_sin, s_ch, HEADS, PAIRS, BLOCK_H if ROPE == 2 else 1, BLOCK_P, H0, H1, H2, H3
        )  # fmt: skip
        b_cos = b_cos.to(WIDE)
        b_sin = b_sin.to(WIDE)
        b_turned = b_0 * b_cos - b_1 * b_sin
        b_1 = b_1 * b_cos + b_0 * b_sin
        b_0 = b_turned
    _store_pairs(p_y, b_0, b_1, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)


@triton.jit
def qk_norm_rope_forward(
    p_q, p_k, p_yq, p_yk, p_wq, p_wk, p_bq, p_bk, p_cos, p_sin,
    s_qb, s_qn, s_qh, s_kb, s_kn, s_kh, s_cb, s_cn, s_ch,
    tokens, eps,
    HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    NORM: tl.constexpr, ACROSS: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, ROPE: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """All heads of one token, queries then keys: read once, written once.

    H0 … H3 are the lengths of the halves of each run of channels, all zero where neighbours are partners. NORM is 0
    for none, 1 for RMSNorm, 2 for LayerNorm, ACROSS all heads or of each. ROPE is 0 for none, 1 for turns that all
    heads share, 2 for turns of each. WIDE is the type that is computed in.
    """
    i = tl.program_id(0).to(tl.int64)
    i_b = i // tokens
    i_n = i % tokens
    p_cos += i_b * s_cb + i_n * s_cn
    p_sin += i_b * s_cb + i_n * s_cn
    p_y = i * (HEADS * 2 * PAIRS)
    _forward_one(
        p_q + i_b * s_qb + i_n * s_qn, p_yq + p_y, p_wq, p_bq, p_cos, p_sin, s_qh, s_ch, eps,
        HEADS, PAIRS, BLOCK_H, BLOCK_P, NORM, ACROSS, WEIGHT, BIAS, ROPE, H0, H1, H2, H3, WIDE,
    )  # fmt: skip
    _forward_one(
        p_k + i_b * s_kb + i_n * s_kn, p_yk + p_y, p_wk, p_bk, p_cos, p_sin, s_kh, s_ch, eps,
        HEADS, PAIRS, BLOCK_H, BLOCK_P, NORM, ACROSS, WEIGHT, BIAS, ROPE, H0, H1, H2, H3, WIDE,
    )  # fmt: skip


@triton.jit
def _backward_one(
    p_x, p_g, p_w, p_cos, p_sin, p_dx, p_dw, p_db,
    s_b, s_n, s_h, s_gb, s_gn, s_gh, s_cb, s_cn, s_ch,
    rows, tokens, eps,
    HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    NORM: tl.constexpr, ACROSS: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, ROPE: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    count = 2 * PAIRS * (HEADS if ACROSS else 1)
    b_dw0 = tl.zeros([BLOCK_H, BLOCK_P], WIDE)
    b_dw1 = tl.zeros([BLOCK_H, BLOCK_P], WIDE)
    b_db0 = tl.zeros([BLOCK_H, BLOCK_P], WIDE)
    b_db1 = tl.zeros([BLOCK_H, BLOCK_P], WIDE)
    if WEIGHT:
        b_w0, b_w1 = _weights(p_w, ACROSS, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)
        b_w0 = b_w0.to(WIDE)
        b_w1 = b_w1.to(WIDE)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        # 64 bits, also where the interpreter counts in numbers of Python's
        i = tl.full([], 0, tl.int64) + row
        i_b = i // tokens
        i_n = i % tokens
        b_d0, b_d1 = _load_pairs(
            p_g + i_b * s_gb + i_n * s_gn, s_gh, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3
        )  # fmt: skip
        b_d0 = b_d0.to(WIDE)
        b_d1 = b_d1.to(WIDE)
        if ROPE != 0:
            # the turn back
            o_c = i_b * s_cb + i_n * s_cn
            b_cos, b_sin = _turns(
                p_cos + o_c, p_sin + o_c, s_ch, HEADS, PAIRS, BLOCK_H if ROPE == 2 else 1, BLOCK_P, H0, H1, H2, H3
            )  # fmt: skip
            b_cos = b_cos.to(WIDE)
            b_sin = b_sin.to(WIDE)
            b_turned = b_d0 * b_cos + b_d1 * b_sin
            b_d1 = b_d1 * b_cos - b_d0 * b_sin
            b_d0 = b_turned
        if NORM != 0:
            b_0, b_1 = _load_pairs(
                p_x + i_b * s_b + i_n * s_n, s_h, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3
            )  # fmt: skip
            b_0, b_1, b_rstd = _normalised(
                b_0.to(WIDE), b_1.to(WIDE), eps, NORM, ACROSS, HEADS, PAIRS, BLOCK_H, BLOCK_P
            )  # fmt: skip
            if BIAS:
                b_db0 += b_d0
                b_db1 += b_d1
            if WEIGHT:
                b_dw0 += b_d0 * b_0
                b_dw1 += b_d1 * b_1
                b_d0 = b_d0 * b_w0
                b_d1 = b_d1 * b_w1
            b_share = _head_sum(b_d0 * b_0, b_d1 * b_1, ACROSS) / count
            b_e0 = b_d0 - b_0 * b_share
            b_e1 = b_d1 - b_1 * b_share
            if NORM == 2:
                b_mean = _head_sum(b_d0, b_d1, ACROSS) / count
                b_e0 = b_e0 - b_mean
                b_e1 = b_e1 - b_mean
            b_d0 = b_e0 * b_rstd
            b_d1 = b_e1 * b_rstd
        _store_pairs(p_dx + i * (HEADS * 2 * PAIRS), b_d0, b_d1, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)
    # this program's share of the gradient of the weights, of every head: summed over heads by the caller
    o_part = tl.program_id(0).to(tl.int64) * (HEADS * 2 * PAIRS)
    if WEIGHT:
        _store_pairs(p_dw + o_part, b_dw0, b_dw1, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)
    if BIAS:
        _store_pairs(p_db + o_part, b_db0, b_db1, HEADS, PAIRS, BLOCK_H, BLOCK_P, H0, H1, H2, H3)


@triton.jit
def qk_norm_rope_backward(
    p_q, p_k, p_gq, p_gk, p_wq, p_wk, p_cos, p_sin, p_dq, p_dk, p_dwq, p_dwk, p_dbq, p_dbk,
    s_qb, s_qn, s_qh, s_kb, s_kn, s_kh, s_gqb, s_gqn, s_gqh, s_gkb, s_gkn, s_gkh, s_cb, s_cn, s_ch,
    rows, tokens, eps,
    HEADS: tl.constexpr, PAIRS: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr,
    NORM: tl.constexpr, ACROSS: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, ROPE: tl.constexpr,
    H0: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, H3: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """All heads of every num_programs-th token, so that a program sums the gradient of the weights in registers."""
    _backward_one(
        p_q, p_gq, p_wq, p_cos, p_sin, p_dq, p_dwq, p_dbq,
        s_qb, s_qn, s_qh, s_gqb, s_gqn, s_gqh, s_cb, s_cn, s_ch, rows, tokens, eps,
        HEADS, PAIRS, BLOCK_H, BLOCK_P, NORM, ACROSS, WEIGHT, BIAS, ROPE, H0, H1, H2, H3, WIDE,
    )  # fmt: skip
    _backward_one(
        p_k, p_gk, p_wk, p_cos, p_sin, p_dk, p_dwk, p_dbk,
        s_kb, s_kn, s_kh, s_gkb, s_gkn, s_gkh, s_cb, s_cn, s_ch, rows, tokens, eps,
        HEADS, PAIRS, BLOCK_H, BLOCK_P, NORM, ACROSS, WEIGHT, BIAS, ROPE, H0, H1, H2, H3, WIDE,
    )  # fmt: skip


def constants(
    heads: int, head_dim: int, norm: str, across: bool, weight: bool, bias: bool, rope: int, runs: tuple[int, ...]
) -> dict[str, Any]:
    """The constants of both kernels but WIDE, for heads of even width and at most `MOST_RUNS` runs."""
    halves = [] if runs == (2,) else [length // 2 for length in runs]
    tile = {"HEADS": heads, "PAIRS": head_dim // 2, "BLOCK_H": power(heads), "BLOCK_P": power(head_dim // 2)}
    kind = {"NORM": NORMS[norm], "ACROSS": across, "WEIGHT": weight, "BIAS": bias, "ROPE": rope}
    return tile | kind | {f"H{i}": halves[i] if i < len(halves) else 0 for i in range(MOST_RUNS)}


def warps_of(heads: int, head_dim: int) -> int:
    """Warps for all heads of a token."""
    return warps(power(heads) * power(head_dim))


#: heads, head_dim, norm, all heads at once, runs: Wan 1.3B and 14B, HunyuanVideo, Open-Sora-Plan 1.3, Latte, LTX-Video
SHAPES = (
    (12, 128, "rms", True, (2,)),
    (40, 128, "rms", True, (2,)),
    (24, 128, "rms", False, (2,)),
    (24, 96, "rms", False, (32, 32, 32)),
    (16, 72, "rms", False, (72,)),
    (32, 64, "rms", True, (2,)),
    (48, 64, "layer", False, (2,)),
)


def shipped(capability: int) -> list[Variant]:
    """The shapes of published models in bfloat16, the widest in each other type; the same on all cards."""
    found = []
    widest = [(dtype, *SHAPES[1]) for dtype in ("fp16", "fp32")]
    for dtype, heads, head_dim, norm, across, runs in (*(("bf16", *shape) for shape in SHAPES), *widest):
        fixed = constants(heads, head_dim, norm, across, True, norm == "layer", SHARED_TURNS, runs)
        fixed |= {"WIDE": tl.float32, "s_ch": 0}
        for kernel in (qk_norm_rope_forward, qk_norm_rope_backward):
            left = [name for name in kernel.arg_names if name not in fixed]
            types = dict.fromkeys(left, "i32") | {name: f"*{dtype}" for name in left if name.startswith("p_")}
            types |= dict.fromkeys(("p_cos", "p_sin"), "*fp32") | {"eps": "fp32"}
            types |= {name: "*fp32" for name in left if name.startswith(("p_dw", "p_db"))}
            aligned = tuple(name for name in left if name.startswith(("p_", "s_")))
            title = f"{kernel.__name__} {dtype} {heads}x{head_dim} {norm}{' across heads' if across else ''}"
            found.append(Variant(title, kernel, types, fixed, aligned, warps_of(heads, head_dim), 1))
    return found

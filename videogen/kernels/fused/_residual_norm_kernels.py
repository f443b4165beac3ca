"""Gated residual, norm, scale and shift in one pass over the tokens, forward and backward."""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from videogen.kernels._variants import Variant
from videogen.kernels.fused._launch import power, warps

#: rows and columns of a tile of the backward pass, which leaves one sum over its rows for each column
ROWS, COLUMNS = 32, 128


@triton.jit
def residual_norm_forward(
    p_x, p_a, p_gate, p_w, p_bias, p_shift, p_scale, p_new, p_y, p_stats,
    s_xb, s_xn, s_ab, s_an, s_gb, s_gn, s_hb, s_hn, s_cb, s_cn,
    tokens, eps,
    D: tl.constexpr, BLOCK_D: tl.constexpr, LAYER: tl.constexpr,
    GATE: tl.constexpr, SHIFT: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One token: new = x + gate * a, y = norm(new) * (1 + scale) + shift; and its mean and 1 / deviation, kept.

    Signals that are the same for all tokens have a stride of zero along them. LAYER is LayerNorm, otherwise RMSNorm.
    """
    i = tl.program_id(0).to(tl.int64)
    i_b = i // tokens
    i_n = i % tokens
    o_d = tl.arange(0, BLOCK_D)
    m_d = o_d < D
    # [BLOCK_D]
    b_new = tl.load(p_x + i_b * s_xb + i_n * s_xn + o_d, mask=m_d, other=0).to(WIDE)
    # [BLOCK_D]
    b_a = tl.load(p_a + i_b * s_ab + i_n * s_an + o_d, mask=m_d, other=0).to(WIDE)
    if GATE:
        # [BLOCK_D]
        b_a = b_a * tl.load(p_gate + i_b * s_gb + i_n * s_gn + o_d, mask=m_d, other=0).to(WIDE)
    b_new = b_new + b_a
    tl.store(p_new + i * D + o_d, b_new.to(p_new.dtype.element_ty), mask=m_d)
    b_mean = tl.zeros([1], WIDE)
    if LAYER:
        b_mean += tl.sum(b_new, 0) / D
        # what lies outside must stay zero
        b_new = tl.where(m_d, b_new - b_mean, 0.0)
    b_rstd = tl.rsqrt(tl.sum(b_new * b_new, 0) / D + eps)
    b_new = b_new * b_rstd
    if WEIGHT:
        # [BLOCK_D]
        b_new = b_new * tl.load(p_w + o_d, mask=m_d, other=0).to(WIDE)
    if BIAS:
        # [BLOCK_D]
        b_new = b_new + tl.load(p_bias + o_d, mask=m_d, other=0).to(WIDE)
    # [BLOCK_D]
    b_scale = tl.load(p_scale + i_b * s_cb + i_n * s_cn + o_d, mask=m_d, other=0).to(WIDE)
    b_new = b_new * (1 + b_scale)
    if SHIFT:
        # [BLOCK_D]
        b_new = b_new + tl.load(p_shift + i_b * s_hb + i_n * s_hn + o_d, mask=m_d, other=0).to(WIDE)
    tl.store(p_y + i * D + o_d, b_new.to(p_y.dtype.element_ty), mask=m_d)
    tl.store(p_stats + i * 2 + tl.arange(0, 1), b_mean)
    tl.store(p_stats + i * 2 + 1, b_rstd)


@triton.jit
def _entered(
    p_dy, p_new, p_scale, p_w, p_bias, b_mean, b_rstd, o_row, o_n, s_cn, o_d, m_x, m_d,
    D: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, PER_TOKEN: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Of one tile: dy, the normalised tokens, these with weights, and the gradients behind scale and behind weights."""
    # [ROWS, COLUMNS]
    b_dy = tl.load(p_dy + o_row[:, None] * D + o_d[None, :], mask=m_x, other=0).to(WIDE)
    # [ROWS, COLUMNS]
    b_new = tl.load(p_new + o_row[:, None] * D + o_d[None, :], mask=m_x, other=0).to(WIDE)
    b_hat = (b_new - b_mean[:, None]) * b_rstd[:, None]
    if PER_TOKEN:
        # [ROWS, COLUMNS]
        b_scale = tl.load(p_scale + o_n[:, None] * s_cn + o_d[None, :], mask=m_x, other=0).to(WIDE)
    else:
        # [1, COLUMNS]
        b_scale = tl.load(p_scale + o_d, mask=m_d, other=0).to(WIDE)[None, :]
    b_dh = b_dy * (1 + b_scale)
    b_dn = b_dh
    b_h = b_hat
    if WEIGHT:
        # [1, COLUMNS]
        b_w = tl.load(p_w + o_d, mask=m_d, other=0).to(WIDE)[None, :]
        b_dn = b_dn * b_w
        b_h = b_h * b_w
    if BIAS:
        # [1, COLUMNS]
        b_h = b_h + tl.load(p_bias + o_d, mask=m_d, other=0).to(WIDE)[None, :]
    return b_dy, b_hat, b_h, b_dh, b_dn


@triton.jit
def residual_norm_backward(
    p_new, p_a, p_gate, p_w, p_bias, p_scale, p_stats, p_dnew, p_dy,
    p_dx, p_da, p_dgate, p_dshift, p_dscale, p_dw, p_dbias,
    s_ab, s_an, s_gb, s_gn, s_cb, s_cn,
    tokens, chunks,
    D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LAYER: tl.constexpr, GATE: tl.constexpr,
    SHIFT: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, PER_TOKEN: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """ROWS tokens of one sample, a stripe of COLUMNS after the other, twice: for what a norm needs, then for the rest.

    Gradients of signals are a row for each token (PER_TOKEN), or else, as those of weights, a partial sum for each
    program. dx is also that of `a` where there is no gate.
    """
    i = tl.program_id(0).to(tl.int64)
    i_b = i // chunks
    o_n = (i % chunks) * ROWS + tl.arange(0, ROWS)
    m_n = o_n < tokens
    o_row = i_b * tokens + o_n
    p_a += i_b * s_ab
    p_gate += i_b * s_gb
    p_scale += i_b * s_cb
    # [ROWS]
    b_mean = tl.load(p_stats + o_row * 2, mask=m_n, other=0)
    # [ROWS]
    b_rstd = tl.load(p_stats + o_row * 2 + 1, mask=m_n, other=0)
    b_shared = tl.zeros([ROWS], WIDE)
    b_along = tl.zeros([ROWS], WIDE)
    for start in range(0, D, COLUMNS):
        o_d = start + tl.arange(0, COLUMNS)
        m_d = o_d < D
        m_x = m_n[:, None] & m_d[None, :]
        _, b_hat, _, _, b_dn = _entered(
            p_dy, p_new, p_scale, p_w, p_bias, b_mean, b_rstd, o_row, o_n, s_cn, o_d, m_x, m_d,
            D, WEIGHT, BIAS, PER_TOKEN, WIDE,
        )  # fmt: skip
        if LAYER:
            b_shared += tl.sum(b_dn, 1)
        b_along += tl.sum(b_dn * b_hat, 1)
    b_shared = b_shared / D
    b_along = b_along / D
    for start in range(0, D, COLUMNS):
        o_d = start + tl.arange(0, COLUMNS)
        m_d = o_d < D
        m_x = m_n[:, None] & m_d[None, :]
        o_x = o_row[:, None] * D + o_d[None, :]
        b_dy, b_hat, b_h, b_dh, b_dn = _entered(
            p_dy, p_new, p_scale, p_w, p_bias, b_mean, b_rstd, o_row, o_n, s_cn, o_d, m_x, m_d,
            D, WEIGHT, BIAS, PER_TOKEN, WIDE,
        )  # fmt: skip
        # [ROWS, COLUMNS]
        b_dx = tl.load(p_dnew + o_x, mask=m_x, other=0).to(WIDE)
        b_dx += b_rstd[:, None] * (b_dn - b_shared[:, None] - b_hat * b_along[:, None])
        tl.store(p_dx + o_x, b_dx.to(p_dx.dtype.element_ty), mask=m_x)
        if GATE:
            # [ROWS, COLUMNS]
            b_a = tl.load(p_a + o_n[:, None] * s_an + o_d[None, :], mask=m_x, other=0).to(WIDE)
            if PER_TOKEN:
                # [ROWS, COLUMNS]
                b_gate = tl.load(p_gate + o_n[:, None] * s_gn + o_d[None, :], mask=m_x, other=0).to(WIDE)
                tl.store(p_dgate + o_x, (b_dx * b_a).to(p_dgate.dtype.element_ty), mask=m_x)
            else:
                # [1, COLUMNS]
                b_gate = tl.load(p_gate + o_d, mask=m_d, other=0).to(WIDE)[None, :]
                tl.store(p_dgate + i * D + o_d, tl.sum(b_dx * b_a, 0), mask=m_d)
            tl.store(p_da + o_x, (b_dx * b_gate).to(p_da.dtype.element_ty), mask=m_x)
        if PER_TOKEN:
            tl.store(p_dscale + o_x, (b_dy * b_h).to(p_dscale.dtype.element_ty), mask=m_x)
            if SHIFT:
                tl.store(p_dshift + o_x, b_dy.to(p_dshift.dtype.element_ty), mask=m_x)
        else:
            tl.store(p_dscale + i * D + o_d, tl.sum(b_dy * b_h, 0), mask=m_d)
            if SHIFT:
                tl.store(p_dshift + i * D + o_d, tl.sum(b_dy, 0), mask=m_d)
        if WEIGHT:
            tl.store(p_dw + i * D + o_d, tl.sum(b_dh * b_hat, 0), mask=m_d)
        if BIAS:
            tl.store(p_dbias + i * D + o_d, tl.sum(b_dh, 0), mask=m_d)


def warps_of(width: int) -> int:
    """Warps for one row of the forward pass."""
    return warps(power(width))


#: widths of Open-Sora, Wan 1.3B, Open-Sora-Plan 1.3, HunyuanVideo, Wan 14B
WIDTHS = (1152, 1536, 2304, 3072, 5120)


def shipped(capability: int) -> list[Variant]:
    """The widths of published models in bfloat16, one in each other type, without weights; the same on all cards."""
    found = []
    for dtype, width in (*(("bf16", width) for width in WIDTHS), ("fp16", WIDTHS[-1]), ("fp32", WIDTHS[-1])):
        for layer in (True, False):
            named = {"D": width, "LAYER": layer, "GATE": True, "SHIFT": True, "WEIGHT": False, "BIAS": False}
            named |= {"WIDE": tl.float32}
            ahead = named | {"BLOCK_D": power(width)}
            back = named | {"ROWS": ROWS, "COLUMNS": COLUMNS, "PER_TOKEN": False}
            for kernel, fixed, count in (
                (residual_norm_forward, ahead, warps_of(width)),
                (residual_norm_backward, back, BACKWARD_WARPS),
            ):
                title = f"{kernel.__name__} {dtype} {width} {'layer' if layer else 'rms'}"
                found.append(_variant(title, dtype, kernel, fixed, count))
    return found


def _variant(title: str, dtype: str, kernel: Any, fixed: dict[str, Any], num_warps: int) -> Variant:
    left = [name for name in kernel.arg_names if name not in fixed]
    types = dict.fromkeys(left, "i32") | {name: f"*{dtype}" for name in left if name.startswith("p_")}
    sums = ("p_stats", "p_dgate", "p_dshift", "p_dscale", "p_dw", "p_dbias")
    types |= {name: "*fp32" for name in left if name in sums} | ({"eps": "fp32"} if "eps" in left else {})
    aligned = tuple(name for name in left if name.startswith(("p_", "s_")))
    return Variant(title, kernel, types, fixed, aligned, num_warps, 1)


BACKWARD_WARPS = warps(ROWS * COLUMNS)

"""Gated residual, norm, scale and shift in one pass over the tokens, forward and backward."""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from videogen.kernels._variants import Variant
from videogen.kernels.fused._launch import power, warps


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
def residual_norm_backward(
    p_new, p_a, p_gate, p_w, p_bias, p_scale, p_stats, p_dnew, p_dy,
    p_dx, p_da, p_dgate, p_dshift, p_dscale, p_dw, p_dbias,
    s_ab, s_an, s_gb, s_gn, s_cb, s_cn,
    tokens, chunks,
    D: tl.constexpr, BLOCK_D: tl.constexpr, LAYER: tl.constexpr, GATE: tl.constexpr,
    SHIFT: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, PER_TOKEN: tl.constexpr, STAGES: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Every chunks-th token of one sample: all that it needs is read once.

    Gradients of signals are a row for each token (PER_TOKEN), or else, as those of weights, this program's share of a
    sum, kept in registers. dx is also that of `a` where there is no gate.
    """
    i = tl.program_id(0).to(tl.int64)
    i_b = i // chunks
    o_d = tl.arange(0, BLOCK_D)
    m_d = o_d < D
    p_a += i_b * s_ab
    p_gate += i_b * s_gb
    p_scale += i_b * s_cb
    b_dgate = tl.zeros([BLOCK_D], WIDE)
    b_dshift = tl.zeros([BLOCK_D], WIDE)
    b_dscale = tl.zeros([BLOCK_D], WIDE)
    b_dw = tl.zeros([BLOCK_D], WIDE)
    b_dbias = tl.zeros([BLOCK_D], WIDE)
    for start in tl.range(0, tokens, chunks, num_stages=STAGES):
        # 64 bits, also where the interpreter counts in numbers of Python's
        i_n = start + i % chunks
        m_x = m_d & (i_n < tokens)
        i_row = i_b * tokens + i_n
        o_x = i_row * D + o_d
        # [BLOCK_D]
        b_hat = tl.load(p_new + o_x, mask=m_x, other=0).to(WIDE)
        # [BLOCK_D]
        b_dy = tl.load(p_dy + o_x, mask=m_x, other=0).to(WIDE)
        # [BLOCK_D]
        b_dx = tl.load(p_dnew + o_x, mask=m_x, other=0).to(WIDE)
        # [1]
        o_stats = i_row * 2 + tl.arange(0, 1)
        b_mean = tl.load(p_stats + o_stats, mask=i_n < tokens, other=0)
        b_rstd = tl.load(p_stats + o_stats + 1, mask=i_n < tokens, other=0)
        b_hat = (b_hat - b_mean) * b_rstd
        # [BLOCK_D]
        b_scale = tl.load(p_scale + i_n * s_cn + o_d, mask=m_x, other=0).to(WIDE)
        b_dn = b_dy * (1 + b_scale)
        b_h = b_hat
        if BIAS:
            b_dbias += b_dn
        if WEIGHT:
            b_dw += b_dn * b_hat
            # [BLOCK_D]
            b_w = tl.load(p_w + o_d, mask=m_d, other=0).to(WIDE)
            b_dn = b_dn * b_w
            b_h = b_h * b_w
        if BIAS:
            # [BLOCK_D]
            b_h = b_h + tl.load(p_bias + o_d, mask=m_d, other=0).to(WIDE)
        if PER_TOKEN:
            tl.store(p_dscale + o_x, (b_dy * b_h).to(p_dscale.dtype.element_ty), mask=m_x)
            if SHIFT:
                tl.store(p_dshift + o_x, b_dy.to(p_dshift.dtype.element_ty), mask=m_x)
        else:
            b_dscale += b_dy * b_h
            b_dshift += b_dy
        b_along = tl.sum(b_dn * b_hat, 0) / D
        if LAYER:
            b_dn = b_dn - tl.sum(b_dn, 0) / D
        b_dx += b_rstd * (b_dn - b_hat * b_along)
        tl.store(p_dx + o_x, b_dx.to(p_dx.dtype.element_ty), mask=m_x)
        if GATE:
            # [BLOCK_D]
            b_a = tl.load(p_a + i_n * s_an + o_d, mask=m_x, other=0).to(WIDE)
            # [BLOCK_D]
            b_gate = tl.load(p_gate + i_n * s_gn + o_d, mask=m_x, other=0).to(WIDE)
            tl.store(p_da + o_x, (b_dx * b_gate).to(p_da.dtype.element_ty), mask=m_x)
            if PER_TOKEN:
                tl.store(p_dgate + o_x, (b_dx * b_a).to(p_dgate.dtype.element_ty), mask=m_x)
            else:
                b_dgate += b_dx * b_a
    o_part = i * D + o_d
    if not PER_TOKEN:
        tl.store(p_dscale + o_part, b_dscale, mask=m_d)
        if SHIFT:
            tl.store(p_dshift + o_part, b_dshift, mask=m_d)
        if GATE:
            tl.store(p_dgate + o_part, b_dgate, mask=m_d)
    if WEIGHT:
        tl.store(p_dw + o_part, b_dw, mask=m_d)
    if BIAS:
        tl.store(p_dbias + o_part, b_dbias, mask=m_d)


def warps_of(width: int) -> int:
    """Warps for one row."""
    return warps(power(width))


def stages_of(width: int, itemsize: int) -> int:
    """Rows of the backward pass in flight: 2 where six tensors of one take little of the smallest shared memory."""
    return 2 if power(width) * itemsize <= 8192 else 1


#: widths of Open-Sora, Wan 1.3B, Open-Sora-Plan 1.3, HunyuanVideo, Wan 14B
WIDTHS = (1152, 1536, 2304, 3072, 5120)


def shipped(capability: int) -> list[Variant]:
    """The widths of published models in bfloat16, one in each other type, without weights; the same on all cards."""
    found = []
    for dtype, width in (*(("bf16", width) for width in WIDTHS), ("fp16", WIDTHS[-1]), ("fp32", WIDTHS[-1])):
        for layer in (True, False):
            named = {"D": width, "LAYER": layer, "GATE": True, "SHIFT": True, "WEIGHT": False, "BIAS": False}
            named |= {"WIDE": tl.float32}
            named["BLOCK_D"] = power(width)
            back = named | {"PER_TOKEN": False, "STAGES": stages_of(width, 4 if dtype == "fp32" else 2)}
            for kernel, fixed in ((residual_norm_forward, named), (residual_norm_backward, back)):
                title = f"{kernel.__name__} {dtype} {width} {'layer' if layer else 'rms'}"
                found.append(_variant(title, dtype, kernel, fixed, warps_of(width)))
    return found


def _variant(title: str, dtype: str, kernel: Any, fixed: dict[str, Any], num_warps: int) -> Variant:
    left = [name for name in kernel.arg_names if name not in fixed]
    types = dict.fromkeys(left, "i32") | {name: f"*{dtype}" for name in left if name.startswith("p_")}
    sums = ("p_stats", "p_dgate", "p_dshift", "p_dscale", "p_dw", "p_dbias")
    types |= {name: "*fp32" for name in left if name in sums} | ({"eps": "fp32"} if "eps" in left else {})
    aligned = tuple(name for name in left if name.startswith(("p_", "s_")))
    return Variant(title, kernel, types, fixed, aligned, num_warps, 1)

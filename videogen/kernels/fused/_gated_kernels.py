"""The gate of a gated linear unit, value * activation(gate), from one packed product, forward and backward."""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl

from videogen.kernels._variants import Variant

# the values of ACTIVATION below
ACTIVATIONS = {"gelu": 0, "silu": 1}
#: columns of one program, and the warps that share them
BLOCK, WARPS = 1024, 4


@triton.jit
def _activation(b_g, ACTIVATION: tl.constexpr):
    """The activation and its derivative: GELU by the error function, or SiLU."""
    if ACTIVATION == 0:
        b_share = 0.5 * (1 + tl.erf(b_g * 0.7071067811865476))
        b_slope = b_share + b_g * tl.exp(-0.5 * b_g * b_g) * 0.3989422804014327
    else:
        b_share = 1 / (1 + tl.exp(-b_g))
        b_slope = b_share * (1 + b_g * (1 - b_share))
    return b_g * b_share, b_slope


@triton.jit
def gated_forward(
    p_x, p_y, s_x, WIDTH: tl.constexpr, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr
):
    """BLOCK columns of one row: value in the first half of the row, gate in the second."""
    stripes = tl.cdiv(WIDTH, BLOCK)
    i_row = (tl.program_id(0) // stripes).to(tl.int64)
    o_d = tl.program_id(0) % stripes * BLOCK + tl.arange(0, BLOCK)
    m_d = o_d < WIDTH
    # [BLOCK]
    b_value = tl.load(p_x + i_row * s_x + o_d, mask=m_d, other=0).to(WIDE)
    # [BLOCK]
    b_gate = tl.load(p_x + i_row * s_x + WIDTH + o_d, mask=m_d, other=0).to(WIDE)
    b_act, _ = _activation(b_gate, ACTIVATION)
    tl.store(p_y + i_row * WIDTH + o_d, (b_value * b_act).to(p_y.dtype.element_ty), mask=m_d)


@triton.jit
def gated_backward(
    p_x, p_dy, p_dx, s_x, WIDTH: tl.constexpr, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """The gradient of both halves."""
    stripes = tl.cdiv(WIDTH, BLOCK)
    i_row = (tl.program_id(0) // stripes).to(tl.int64)
    o_d = tl.program_id(0) % stripes * BLOCK + tl.arange(0, BLOCK)
    m_d = o_d < WIDTH
    # [BLOCK]
    b_value = tl.load(p_x + i_row * s_x + o_d, mask=m_d, other=0).to(WIDE)
    # [BLOCK]
    b_gate = tl.load(p_x + i_row * s_x + WIDTH + o_d, mask=m_d, other=0).to(WIDE)
    # [BLOCK]
    b_dy = tl.load(p_dy + i_row * WIDTH + o_d, mask=m_d, other=0).to(WIDE)
    b_act, b_slope = _activation(b_gate, ACTIVATION)
    p_dx += i_row * 2 * WIDTH + o_d
    tl.store(p_dx, (b_dy * b_act).to(p_dx.dtype.element_ty), mask=m_d)
    tl.store(p_dx + WIDTH, (b_dy * b_value * b_slope).to(p_dx.dtype.element_ty), mask=m_d)


#: hidden widths of dim 1152 with a ratio of 8 / 3, LTX-Video's and HunyuanVideo's neighbours
WIDTHS = (3072, 8192)


def shipped(capability: int) -> list[Variant]:
    """Both activations in each type; the same on all cards."""
    found = []
    for kernel in (gated_forward, gated_backward):
        for dtype, width in (*(("bf16", width) for width in WIDTHS), ("fp16", WIDTHS[0]), ("fp32", WIDTHS[0])):
            for name, activation in ACTIVATIONS.items():
                fixed = {"WIDTH": width, "ACTIVATION": activation, "BLOCK": BLOCK, "WIDE": tl.float32}
                types = {arg: f"*{dtype}" for arg in kernel.arg_names if arg.startswith("p_")} | {"s_x": "i32"}
                title = f"{kernel.__name__} {dtype} {width} {name}"
                found.append(Variant(title, kernel, types, fixed, tuple(types), WARPS, 1))
    return found

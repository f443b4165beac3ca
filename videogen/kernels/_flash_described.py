"""FlashAttention forward by tensor descriptors: tiles move through the memory accelerator of Hopper and Blackwell.

A descriptor tells it where five axes lie, (outer groups, inner groups, tokens, heads, head_dim); it computes addresses,
fills with zeros what lies outside, and so leaves both out of the registers of a kernel.
"""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl

from videogen.kernels._flash_forward import LN_2, weigh_scores
from videogen.kernels._triton import load_tile


@triton.jit
def attend_described(
    b_q, b_acc, b_max, b_sum, d_k, d_v, p_mask, s_ml, i_j, i_g, i_h, start, keys, scale_log2,
    D: tl.constexpr, BLOCK_N: tl.constexpr, TAIL: tl.constexpr, MASK: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One step of the online softmax, as `attend_tile` takes one."""
    o_l = start + tl.arange(0, BLOCK_N)
    m_l = o_l < keys
    # [BLOCK_N, D]
    b_k = d_k.load([i_g, i_j, start, i_h, 0]).reshape(BLOCK_N, D)
    b_v = d_v.load([i_g, i_j, start, i_h, 0]).reshape(BLOCK_N, D)
    if UPCAST:
        b_k = b_k.to(tl.float32)
        b_v = b_v.to(tl.float32)
    b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee")
    if TAIL:
        b_s = tl.where(m_l[None, :], b_s, float("-inf"))
    if MASK == 1:
        # [BLOCK_N]
        b_keep = load_tile(p_mask + o_l.to(tl.int64) * s_ml, m_l, m_l, TAIL, False) != 0
        b_s = tl.where(b_keep[None, :], b_s, float("-inf"))
        b_v = tl.where(b_keep[:, None], b_v, 0.0)
    b_p, b_alpha, b_max, b_sum = weigh_scores(b_s, b_max, b_sum, scale_log2, MASK != 0)
    b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_alpha[:, None], input_precision="ieee")
    return b_acc, b_max, b_sum


@triton.jit
def flash_forward_described(
    d_q, d_k, d_v, d_o, p_lse, p_mask, scale_log2,
    s_mg, s_mj, s_mh, s_ml, s_eg, s_eh, heads, inner_groups, queries, keys,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, MASK: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """BLOCK_M queries of one head and group against all keys of the group, as `flash_forward`.

    MASK: 0 none, 1 one row of keys.
    """
    blocks = tl.cdiv(queries, BLOCK_M)
    i_m = tl.program_id(0) % blocks
    i_h = tl.program_id(0) // blocks % heads
    i_both = tl.program_id(0) // blocks // heads
    i_g = i_both // inner_groups
    i_j = i_both % inner_groups
    p_mask += i_g.to(tl.int64) * s_mg + i_j.to(tl.int64) * s_mj + i_h.to(tl.int64) * s_mh
    # [BLOCK_M, D]
    b_q = d_q.load([i_g, i_j, i_m * BLOCK_M, i_h, 0]).reshape(BLOCK_M, D)
    if UPCAST:
        b_q = b_q.to(tl.float32)
    b_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_M], tl.float32)
    b_acc = tl.zeros([BLOCK_M, D], tl.float32)
    whole = keys // BLOCK_N * BLOCK_N
    for start in range(0, whole, BLOCK_N):
        b_acc, b_max, b_sum = attend_described(
            b_q, b_acc, b_max, b_sum, d_k, d_v, p_mask, s_ml, i_j, i_g, i_h, start, keys, scale_log2,
            D, BLOCK_N, False, MASK, UPCAST,
        )  # fmt: skip
    if whole < keys:
        b_acc, b_max, b_sum = attend_described(
            b_q, b_acc, b_max, b_sum, d_k, d_v, p_mask, s_ml, i_j, i_g, i_h, whole, keys, scale_log2,
            D, BLOCK_N, True, MASK, UPCAST,
        )  # fmt: skip
    # a query that may attend to nothing has summed nothing: 0 / 1, not 0 / 0
    b_sum = tl.where(b_sum == 0.0, 1.0, b_sum)
    b_out = (b_acc / b_sum[:, None]).to(d_o.dtype)
    # [BLOCK_M, D], of which what lies outside isn't written
    d_o.store([i_g, i_j, i_m * BLOCK_M, i_h, 0], b_out.reshape(1, 1, BLOCK_M, 1, D))
    o_n = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    # [BLOCK_M]
    p_row = p_lse + i_both.to(tl.int64) * s_eg + i_h.to(tl.int64) * s_eh + o_n
    tl.store(p_row, (b_max + tl.log2(b_sum)) * LN_2, mask=o_n < queries)

"""FlashAttention backward on tensors of any strides, in groups: one kernel for queries, one for keys and values.

The layouts of `_flash_forward`. Probabilities are computed again from the forward's logarithms of sums; each program
writes what it alone sums up, so that nothing is atomic and equal inputs give equal gradients.
"""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl

from videogen.kernels._flash_forward import hide_scores
from videogen.kernels._triton import finite_rows, load_rows, load_tile, offset_rows, place_rows, store_rows

LN_2 = tl.constexpr(0.6931471805599453)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def query_gradient_tile(
    b_q, b_do, b_lse, b_delta, b_dq, p_k, p_v, p_mask, s_k, s_v, s_m, s_mn,
    o_g, o_row, i_g, start, groups, inner_groups, keys, inner_keys, scale_log2,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, BLOCK_N: tl.constexpr,
    TAIL: tl.constexpr, PACK: tl.constexpr, MASK: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """The queries' gradient b_dq, without its scale, after the BLOCK_N keys from `start`."""
    o_gk, o_l, m_l = place_rows(i_g, start, keys, groups, BLOCK_N, PACK)
    w_k = offset_rows(o_gk, o_l, inner_groups, inner_keys, s_k)
    w_v = offset_rows(o_gk, o_l, inner_groups, inner_keys, s_v)
    # [BLOCK_N, D]
    b_k = load_rows(p_k, w_k, m_l, HEAD_DIM, D, TAIL, UPCAST)
    # [BLOCK_N, D]
    b_v = load_rows(p_v, w_v, m_l, HEAD_DIM, D, TAIL, UPCAST)
    b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee")
    b_s, b_keep, _ = hide_scores(
        b_s, p_mask, s_m, s_mn, o_g, o_row, i_g, o_gk, o_l, m_l, inner_groups, inner_keys, TAIL, PACK, MASK
    )
    if PACK > 1:
        # what a NaN touches in its group has one in b_lse or b_delta; it is not to reach other groups as 0 * NaN
        b_k, _ = finite_rows(b_k)
        b_v, _ = finite_rows(b_v)
    if MASK == 1:
        b_k = tl.where(b_keep[:, None], b_k, 0.0)
        b_v = tl.where(b_keep[:, None], b_v, 0.0)
    b_p = tl.exp2(b_s * scale_log2 - b_lse[:, None])
    b_dp = tl.dot(b_do, tl.trans(b_v), input_precision="ieee")
    b_ds = b_p * (b_dp - b_delta[:, None])
    return tl.dot(b_ds.to(b_k.dtype), b_k, b_dq, input_precision="ieee")


@triton.jit
def flash_backward_queries(
    p_q, p_k, p_v, p_o, p_do, p_dq, p_lse, p_delta, p_mask, p_first_q, p_first_k,
    scale_log2,
    s_qg, s_qj, s_qn, s_qi, s_qh,
    s_kg, s_kj, s_kl, s_ki, s_kh,
    s_vg, s_vj, s_vl, s_vi, s_vh,
    s_og, s_oj, s_on, s_oi, s_oh,
    s_xg, s_xj, s_xn, s_xi, s_xh,
    s_mg, s_mj, s_mh, s_mn, s_ml, s_mi,
    s_eg, s_eh,
    heads, groups, inner_groups, queries, inner_queries, keys, inner_keys,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PACK: tl.constexpr, MASK: tl.constexpr, RAGGED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """The gradient of BLOCK_M queries of one head, strides s_x; output and its gradient share strides s_o.

    p_delta holds minus the gradient of the forward's logarithms, and is left with what the softmax takes off:
    sum(out * its gradient) more, for `flash_backward_keys`. Other arguments as in `flash_forward`.
    """
    blocks = tl.cdiv(queries, BLOCK_M)
    i_m = tl.program_id(0) % blocks
    i_h = tl.program_id(0) // blocks % heads
    i_g = tl.program_id(0) // blocks // heads

    p_q += i_h.to(tl.int64) * s_qh
    p_k += i_h.to(tl.int64) * s_kh
    p_v += i_h.to(tl.int64) * s_vh
    p_o += i_h.to(tl.int64) * s_oh
    p_do += i_h.to(tl.int64) * s_oh
    p_dq += i_h.to(tl.int64) * s_xh
    p_lse += i_h.to(tl.int64) * s_eh
    p_delta += i_h.to(tl.int64) * s_eh
    p_mask += i_h.to(tl.int64) * s_mh
    if RAGGED:
        first_q = tl.load(p_first_q + i_g)
        first_k = tl.load(p_first_k + i_g)
        queries = tl.load(p_first_q + i_g + 1) - first_q
        # a block behind the end of its segment has nothing to do
        keys = tl.where(i_m * BLOCK_M < queries, tl.load(p_first_k + i_g + 1) - first_k, 0)
        p_q += first_q.to(tl.int64) * s_qn
        p_k += first_k.to(tl.int64) * s_kl
        p_v += first_k.to(tl.int64) * s_vl
        p_o += first_q.to(tl.int64) * s_on
        p_do += first_q.to(tl.int64) * s_on
        p_dq += first_q.to(tl.int64) * s_xn
        p_lse += first_q
        p_delta += first_q

    ACC: tl.constexpr = p_lse.dtype.element_ty
    o_g, o_n, m_n = place_rows(i_g, i_m * BLOCK_M, queries, groups, BLOCK_M, PACK)
    o_row = tl.where(m_n, o_n, i_m * BLOCK_M)
    w_q = offset_rows(o_g, o_n, inner_groups, inner_queries, (s_qg, s_qj, s_qn, s_qi))
    w_o = offset_rows(o_g, o_n, inner_groups, inner_queries, (s_og, s_oj, s_on, s_oi))
    w_e = o_g.to(tl.int64) * s_eg + o_n
    # [BLOCK_M, D]
    b_q = load_rows(p_q, w_q, m_n, HEAD_DIM, D, True, UPCAST)
    b_do = load_rows(p_do, w_o, m_n, HEAD_DIM, D, True, UPCAST)
    b_o = load_rows(p_o, w_o, m_n, HEAD_DIM, D, True, UPCAST)
    # [BLOCK_M]
    b_lse = tl.load(p_lse + w_e, mask=m_n, other=0.0)
    b_delta = tl.load(p_delta + w_e, mask=m_n, other=0.0) + tl.sum(b_o.to(ACC) * b_do.to(ACC), 1)
    tl.store(p_delta + w_e, b_delta, mask=m_n)
    # a query that attends to nothing: all its scores are -inf, and -inf - -inf would be NaN
    b_lse = tl.where(b_lse == float("-inf"), 0.0, b_lse) * LOG2_E
    b_dq = tl.zeros([BLOCK_M, D], ACC)

    s_k = (s_kg, s_kj, s_kl, s_ki)
    s_v = (s_vg, s_vj, s_vl, s_vi)
    s_m = (s_mg, s_mj, s_ml, s_mi)
    whole = keys // BLOCK_N * BLOCK_N
    if PACK > 1:
        whole = 0
    for start in range(0, whole, BLOCK_N):
        b_dq = query_gradient_tile(
            b_q, b_do, b_lse, b_delta, b_dq, p_k, p_v, p_mask, s_k, s_v, s_m, s_mn,
            o_g, o_row, i_g, start, groups, inner_groups, keys, inner_keys, scale_log2,
            HEAD_DIM, D, BLOCK_N, False, PACK, MASK, UPCAST,
        )  # fmt: skip
    if whole < keys:
        b_dq = query_gradient_tile(
            b_q, b_do, b_lse, b_delta, b_dq, p_k, p_v, p_mask, s_k, s_v, s_m, s_mn,
            o_g, o_row, i_g, whole, groups, inner_groups, keys, inner_keys, scale_log2,
            HEAD_DIM, D, BLOCK_N, True, PACK, MASK, UPCAST,
        )  # fmt: skip

    # [BLOCK_M, D]
    w_x = offset_rows(o_g, o_n, inner_groups, inner_queries, (s_xg, s_xj, s_xn, s_xi))
    store_rows(p_dq, w_x, b_dq * (scale_log2 * LN_2), m_n, HEAD_DIM, D)


@triton.jit
def key_gradient_tile(
    b_k, b_v, b_dk, b_dv, b_keep, p_q, p_do, p_lse, p_delta, p_mask, s_q, s_o, s_mn, s_eg,
    o_gk, w_m, i_g, start, groups, inner_groups, queries, inner_queries, scale_log2,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr,
    TAIL: tl.constexpr, PACK: tl.constexpr, MASK: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """The gradients b_dk, without its scale, and b_dv after the BLOCK_M queries from `start`; scores are transposed."""
    o_g, o_n, m_n = place_rows(i_g, start, queries, groups, BLOCK_M, PACK)
    w_q = offset_rows(o_g, o_n, inner_groups, inner_queries, s_q)
    w_o = offset_rows(o_g, o_n, inner_groups, inner_queries, s_o)
    w_e = o_g.to(tl.int64) * s_eg + o_n
    # [BLOCK_M, D]
    b_q = load_rows(p_q, w_q, m_n, HEAD_DIM, D, TAIL, UPCAST)
    # [BLOCK_M, D]
    b_do = load_rows(p_do, w_o, m_n, HEAD_DIM, D, TAIL, UPCAST)
    # [BLOCK_M]
    b_lse = load_tile(p_lse + w_e, m_n, m_n, TAIL, False)
    b_delta = load_tile(p_delta + w_e, m_n, m_n, TAIL, False)
    b_lse = tl.where(b_lse == float("-inf"), 0.0, b_lse) * LOG2_E
    # [BLOCK_N, BLOCK_M]
    b_s = tl.dot(b_k, tl.trans(b_q), input_precision="ieee")
    if TAIL:
        b_s = tl.where(m_n[None, :], b_s, float("-inf"))
    if PACK > 1:
        m_same = (o_gk[:, None] == o_g[None, :]) & m_n[None, :]
        b_s = tl.where(m_same, b_s, float("-inf"))
    if MASK == 1:
        b_s = tl.where(b_keep[:, None], b_s, float("-inf"))
    if MASK == 2:
        # rows past the end read the mask of the first query, which exists
        w_n = tl.where(m_n, o_n, start).to(tl.int64) * s_mn
        b_seen = tl.load(p_mask + w_m[:, None] + w_n[None, :])
        b_s = tl.where(b_seen != 0, b_s, float("-inf"))
    b_p = tl.exp2(b_s * scale_log2 - b_lse[None, :])
    if PACK > 1:
        # a query that a NaN touched has one in b_lse or b_delta: it reaches the keys of its own group and no others
        b_p = tl.where(m_same, b_p + (b_delta * 0.0)[None, :], 0.0)
        b_q, _ = finite_rows(b_q)
        b_do, _ = finite_rows(b_do)
    b_dv = tl.dot(b_p.to(b_do.dtype), b_do, b_dv, input_precision="ieee")
    b_dp = tl.dot(b_v, tl.trans(b_do), input_precision="ieee")
    b_ds = b_p * (b_dp - b_delta[None, :])
    if PACK > 1:
        b_ds = tl.where(m_same, b_ds, 0.0)
    b_dk = tl.dot(b_ds.to(b_q.dtype), b_q, b_dk, input_precision="ieee")
    return b_dk, b_dv


@triton.jit
def flash_backward_keys(
    p_q, p_k, p_v, p_do, p_dk, p_dv, p_lse, p_delta, p_mask, p_first_q, p_first_k,
    scale_log2,
    s_qg, s_qj, s_qn, s_qi, s_qh,
    s_kg, s_kj, s_kl, s_ki, s_kh,
    s_vg, s_vj, s_vl, s_vi, s_vh,
    s_og, s_oj, s_on, s_oi, s_oh,
    s_xg, s_xj, s_xl, s_xi, s_xh,
    s_yg, s_yj, s_yl, s_yi, s_yh,
    s_mg, s_mj, s_mh, s_mn, s_ml, s_mi,
    s_eg, s_eh,
    heads, groups, inner_groups, queries, inner_queries, keys, inner_keys,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PACK: tl.constexpr, MASK: tl.constexpr, RAGGED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """The gradients of BLOCK_N keys, strides s_x, and values, strides s_y, of a head over all queries of their groups.

    `keys` is the longest segment's where RAGGED; p_delta is what `flash_backward_queries` left. Other arguments as in
    `flash_forward`.
    """
    blocks = tl.cdiv(keys, BLOCK_N)
    i_n = tl.program_id(0) % blocks
    i_h = tl.program_id(0) // blocks % heads
    i_g = tl.program_id(0) // blocks // heads

    p_q += i_h.to(tl.int64) * s_qh
    p_k += i_h.to(tl.int64) * s_kh
    p_v += i_h.to(tl.int64) * s_vh
    p_do += i_h.to(tl.int64) * s_oh
    p_dk += i_h.to(tl.int64) * s_xh
    p_dv += i_h.to(tl.int64) * s_yh
    p_lse += i_h.to(tl.int64) * s_eh
    p_delta += i_h.to(tl.int64) * s_eh
    p_mask += i_h.to(tl.int64) * s_mh
    if RAGGED:
        first_q = tl.load(p_first_q + i_g)
        first_k = tl.load(p_first_k + i_g)
        keys = tl.load(p_first_k + i_g + 1) - first_k
        # a block behind the end of its segment has nothing to do
        queries = tl.where(i_n * BLOCK_N < keys, tl.load(p_first_q + i_g + 1) - first_q, 0)
        p_q += first_q.to(tl.int64) * s_qn
        p_k += first_k.to(tl.int64) * s_kl
        p_v += first_k.to(tl.int64) * s_vl
        p_do += first_q.to(tl.int64) * s_on
        p_dk += first_k.to(tl.int64) * s_xl
        p_dv += first_k.to(tl.int64) * s_yl
        p_lse += first_q
        p_delta += first_q

    ACC: tl.constexpr = p_lse.dtype.element_ty
    o_gk, o_l, m_l = place_rows(i_g, i_n * BLOCK_N, keys, groups, BLOCK_N, PACK)
    w_k = offset_rows(o_gk, o_l, inner_groups, inner_keys, (s_kg, s_kj, s_kl, s_ki))
    w_v = offset_rows(o_gk, o_l, inner_groups, inner_keys, (s_vg, s_vj, s_vl, s_vi))
    # [BLOCK_N, D]
    b_k = load_rows(p_k, w_k, m_l, HEAD_DIM, D, True, UPCAST)
    b_v = load_rows(p_v, w_v, m_l, HEAD_DIM, D, True, UPCAST)
    # rows past the end read the mask of the first key, which exists
    o_key = tl.where(m_l, o_l, i_n * BLOCK_N)
    w_m = offset_rows(o_gk, o_key, inner_groups, inner_keys, (s_mg, s_mj, s_ml, s_mi))
    b_keep = m_l
    if MASK == 1:
        # [BLOCK_N]
        b_keep = tl.load(p_mask + w_m, mask=m_l, other=0) != 0
        b_k = tl.where(b_keep[:, None], b_k, 0.0)
        b_v = tl.where(b_keep[:, None], b_v, 0.0)
    b_dk = tl.zeros([BLOCK_N, D], ACC)
    b_dv = tl.zeros([BLOCK_N, D], ACC)

    s_q = (s_qg, s_qj, s_qn, s_qi)
    s_o = (s_og, s_oj, s_on, s_oi)
    whole = queries // BLOCK_M * BLOCK_M
    if PACK > 1:
        whole = 0
    for start in range(0, whole, BLOCK_M):
        b_dk, b_dv = key_gradient_tile(
            b_k, b_v, b_dk, b_dv, b_keep, p_q, p_do, p_lse, p_delta, p_mask, s_q, s_o, s_mn, s_eg,
            o_gk, w_m, i_g, start, groups, inner_groups, queries, inner_queries, scale_log2,
            HEAD_DIM, D, BLOCK_M, False, PACK, MASK, UPCAST,
        )  # fmt: skip
    if whole < queries:
        b_dk, b_dv = key_gradient_tile(
            b_k, b_v, b_dk, b_dv, b_keep, p_q, p_do, p_lse, p_delta, p_mask, s_q, s_o, s_mn, s_eg,
            o_gk, w_m, i_g, whole, groups, inner_groups, queries, inner_queries, scale_log2,
            HEAD_DIM, D, BLOCK_M, True, PACK, MASK, UPCAST,
        )  # fmt: skip

    b_dk *= scale_log2 * LN_2
    if MASK == 1:
        # a key that nobody sees has a gradient of zero, not the sum of zero times a query's NaN
        b_dk = tl.where(b_keep[:, None], b_dk, 0.0)
        b_dv = tl.where(b_keep[:, None], b_dv, 0.0)
    w_x = offset_rows(o_gk, o_l, inner_groups, inner_keys, (s_xg, s_xj, s_xl, s_xi))
    w_y = offset_rows(o_gk, o_l, inner_groups, inner_keys, (s_yg, s_yj, s_yl, s_yi))
    # [BLOCK_N, D]
    store_rows(p_dk, w_x, b_dk, m_l, HEAD_DIM, D)
    store_rows(p_dv, w_y, b_dv, m_l, HEAD_DIM, D)

"""FlashAttention forward on tensors of any strides, in groups: one kernel for dense, factorised, skipping and ragged.

Tokens lie on six axes, (outer groups, inner groups, outer tokens, inner tokens, heads, head_dim), each with a stride of
its own. A batch of sequences is a group axis; a video's frames, rows or every k-th token are views.
"""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl

from videogen.kernels._triton import finite_rows, load_rows, load_tile, offset_rows, offset_two, place_rows, store_rows

# what the kernels are told about a mask: the values of MASK
NO_MASK, KEY_MASK, FULL_MASK = 0, 1, 2

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def hide_scores(
    b_s, p_mask, s_m, s_mn, o_g, o_row, i_g, o_gk, o_l, m_l, inner_groups, inner_keys,
    TAIL: tl.constexpr, PACK: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """Scores (BLOCK_M, BLOCK_N) with -inf where a query isn't to see a key: behind the end, in another group, masked.

    Also gives which keys there are by the mask of keys, and where query and key are of one group.
    """
    b_keep = m_l
    m_same = m_l[None, :]
    if TAIL:
        b_s = tl.where(m_l[None, :], b_s, float("-inf"))
    if PACK > 1:
        m_same = (o_g[:, None] == o_gk[None, :]) & m_l[None, :]
        b_s = tl.where(m_same, b_s, float("-inf"))
    if MASK == 1:
        # [BLOCK_N]
        b_keep = load_tile(p_mask + offset_rows(o_gk, o_l, inner_groups, inner_keys, s_m), m_l, m_l, TAIL, False) != 0
        b_s = tl.where(b_keep[None, :], b_s, float("-inf"))
    if MASK == 2:
        w_m = offset_two(i_g, inner_groups, s_m[0], s_m[1]) + offset_two(o_l, inner_keys, s_m[2], s_m[3])
        p_seen = p_mask + o_row.to(tl.int64)[:, None] * s_mn + w_m[None, :]
        # [BLOCK_M, BLOCK_N]
        b_seen = load_tile(p_seen, m_l[None, :], m_l[None, :], TAIL, False)
        b_s = tl.where(b_seen != 0, b_s, float("-inf"))
    return b_s, b_keep, m_same


@triton.jit
def weigh_scores(b_s, b_max, b_sum, scale_log2, BARE: tl.constexpr):
    """Weights of scores by a new maximum, what older sums are worth beside them, that maximum, and the sum.

    The maximum is in units of log2: scores are scaled by log2(e) / sqrt(head_dim) and exp2 replaces exp. BARE: a row
    may not have met a key yet.
    """
    b_new = tl.maximum(b_max, tl.max(b_s, 1) * scale_log2)
    b_base = b_new
    if BARE:
        # -inf - -inf would be NaN
        b_base = tl.where(b_new == float("-inf"), 0.0, b_new)
    # scale and subtraction are one fused multiply-add
    b_p = tl.exp2(b_s * scale_log2 - b_base[:, None])
    b_alpha = tl.exp2(b_max - b_base)
    return b_p, b_alpha, b_new, b_sum * b_alpha + tl.sum(b_p, 1)


@triton.jit
def attend_tile(
    b_q, b_acc, b_max, b_sum, p_k, p_v, p_mask, s_k, s_v, s_m, s_mn,
    o_g, o_row, i_g, start, groups, inner_groups, keys, inner_keys, scale_log2,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, BLOCK_N: tl.constexpr,
    TAIL: tl.constexpr, PACK: tl.constexpr, MASK: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One step of the online softmax: the state (b_acc, b_max, b_sum) after the BLOCK_N keys from `start`."""
    o_gk, o_l, m_l = place_rows(i_g, start, keys, groups, BLOCK_N, PACK)
    w_k = offset_rows(o_gk, o_l, inner_groups, inner_keys, s_k)
    w_v = offset_rows(o_gk, o_l, inner_groups, inner_keys, s_v)
    # [BLOCK_N, D]
    b_k = load_rows(p_k, w_k, m_l, HEAD_DIM, D, TAIL, UPCAST)
    # [BLOCK_N, D]
    b_v = load_rows(p_v, w_v, m_l, HEAD_DIM, D, TAIL, UPCAST)
    # ieee: float32 inputs stay float32, not TF32; it means nothing to the 16-bit types
    b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee")
    b_s, b_keep, m_same = hide_scores(
        b_s, p_mask, s_m, s_mn, o_g, o_row, i_g, o_gk, o_l, m_l, inner_groups, inner_keys, TAIL, PACK, MASK
    )
    if MASK == 1:
        # the weight of such a key is zero, and zero times NaN would not be
        b_v = tl.where(b_keep[:, None], b_v, 0.0)
    b_p, b_alpha, b_max, b_sum = weigh_scores(b_s, b_max, b_sum, scale_log2, MASK != 0 or PACK > 1)
    if PACK > 1:
        # weights between groups are zeros, and zero times NaN would not be: a NaN must stay in its group
        b_v, b_wild = finite_rows(b_v)
        b_touched = tl.max((m_same & b_wild[None, :]).to(tl.int32), 1)
        b_sum = tl.where(b_touched == 1, float("nan"), b_sum)
    b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_alpha[:, None], input_precision="ieee")
    return b_acc, b_max, b_sum


@triton.jit
def flash_forward(
    p_q, p_k, p_v, p_o, p_lse, p_mask, p_first_q, p_first_k,
    scale_log2,
    s_qg, s_qj, s_qn, s_qi, s_qh,
    s_kg, s_kj, s_kl, s_ki, s_kh,
    s_vg, s_vj, s_vl, s_vi, s_vh,
    s_og, s_oj, s_on, s_oi, s_oh,
    s_mg, s_mj, s_mh, s_mn, s_ml, s_mi,
    s_eg, s_eh,
    heads, groups, inner_groups, queries, inner_queries, keys, inner_keys,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PACK: tl.constexpr, MASK: tl.constexpr, RAGGED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """BLOCK_M queries of one head, or PACK short groups of them, against all keys of their groups, non-causal.

    D is HEAD_DIM padded to a power of two; channels lie side by side. MASK: 0 none, 1 one row of keys (s_mh, s_mn
    unused but for heads), 2 a row for each query, whose tokens then have one axis. RAGGED: groups are segments of one
    sequence, which begin at p_first_q[group] and p_first_k[group]; `queries` is then the longest. The natural logarithm
    of the sum of exponents goes to p_lse. UPCAST is for the interpreter alone: it keeps bfloat16 as bit patterns, and
    its tl.dot multiplies those.
    """
    # one grid axis: the second of CUDA's ends at 65535, which frames * heads of a factorised video exceeds
    blocks = tl.cdiv(queries, BLOCK_M)
    i_m = tl.program_id(0) % blocks
    i_h = tl.program_id(0) // blocks % heads
    i_g = tl.program_id(0) // blocks // heads

    p_q += i_h.to(tl.int64) * s_qh
    p_k += i_h.to(tl.int64) * s_kh
    p_v += i_h.to(tl.int64) * s_vh
    p_o += i_h.to(tl.int64) * s_oh
    p_lse += i_h.to(tl.int64) * s_eh
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
        p_lse += first_q

    ACC: tl.constexpr = p_lse.dtype.element_ty
    o_g, o_n, m_n = place_rows(i_g, i_m * BLOCK_M, queries, groups, BLOCK_M, PACK)
    # rows past the end read the mask of the first row, which exists, and so need no predicate
    o_row = tl.where(m_n, o_n, i_m * BLOCK_M)
    w_q = offset_rows(o_g, o_n, inner_groups, inner_queries, (s_qg, s_qj, s_qn, s_qi))
    # [BLOCK_M, D]
    b_q = load_rows(p_q, w_q, m_n, HEAD_DIM, D, True, UPCAST)
    b_max = tl.full([BLOCK_M], float("-inf"), ACC)
    b_sum = tl.zeros([BLOCK_M], ACC)
    b_acc = tl.zeros([BLOCK_M, D], ACC)

    s_k = (s_kg, s_kj, s_kl, s_ki)
    s_v = (s_vg, s_vj, s_vl, s_vi)
    s_m = (s_mg, s_mj, s_ml, s_mi)
    # whole tiles need no bound on the keys; only the last, partial one pays for it
    whole = keys // BLOCK_N * BLOCK_N
    if PACK > 1:
        whole = 0
    for start in range(0, whole, BLOCK_N):
        b_acc, b_max, b_sum = attend_tile(
            b_q, b_acc, b_max, b_sum, p_k, p_v, p_mask, s_k, s_v, s_m, s_mn,
            o_g, o_row, i_g, start, groups, inner_groups, keys, inner_keys, scale_log2,
            HEAD_DIM, D, BLOCK_N, False, PACK, MASK, UPCAST,
        )  # fmt: skip
    if whole < keys:
        b_acc, b_max, b_sum = attend_tile(
            b_q, b_acc, b_max, b_sum, p_k, p_v, p_mask, s_k, s_v, s_m, s_mn,
            o_g, o_row, i_g, whole, groups, inner_groups, keys, inner_keys, scale_log2,
            HEAD_DIM, D, BLOCK_N, True, PACK, MASK, UPCAST,
        )  # fmt: skip

    # a query that may attend to nothing has summed nothing: 0 / 1, not 0 / 0, and the logarithm -inf of its maximum
    b_sum = tl.where(b_sum == 0.0, 1.0, b_sum)
    w_o = offset_rows(o_g, o_n, inner_groups, inner_queries, (s_og, s_oj, s_on, s_oi))
    # [BLOCK_M, D]
    store_rows(p_o, w_o, b_acc / b_sum[:, None], m_n, HEAD_DIM, D)
    # [BLOCK_M]
    tl.store(p_lse + o_g.to(tl.int64) * s_eg + o_n, (b_max + tl.log2(b_sum)) * LN_2, mask=m_n)

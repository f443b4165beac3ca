"""Attention by a list of blocks, forward and backward: FlashAttention whose tiles name the tokens that they hold.

A block of queries walks over its list of blocks of keys, and for the gradients of keys and values a block of keys over
its list of blocks of queries; see `videogen.kernels.blocks.BlockList`. Tokens are read where they lie.
"""

# triton's decorators and kernel arguments have no Python types
# mypy: disable-error-code="untyped-decorator, no-untyped-def, no-untyped-call"

from __future__ import annotations

import triton
import triton.language as tl

from videogen.kernels._flash_forward import weigh_scores
from videogen.kernels._triton import load_rows, store_rows

LN_2 = tl.constexpr(0.6931471805599453)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _rows_of(b_token):
    """Tokens in 64 bits, and where there is one."""
    m_row = b_token >= 0
    return tl.where(m_row, b_token, 0).to(tl.int64), m_row


@triton.jit
def _token_rows(p_tokens, start, ROWS: tl.constexpr):
    """The tokens of some places of the table, in 64 bits, and which places hold one."""
    # [ROWS]
    return _rows_of(tl.load(p_tokens + start + tl.arange(0, ROWS)))


@triton.jit
def _list_of(p_first, i_b, i_h, i_block, s_fb, s_fh, STEPS: tl.constexpr):
    """First and last step of a block's list, STEPS for each block in it."""
    p_first += i_b * s_fb + i_h * s_fh + i_block
    return tl.load(p_first) * STEPS, tl.load(p_first + 1) * STEPS


@triton.jit
def _listed(p_list, step, end, STEPS: tl.constexpr):
    """The block of a step, or the first one of all behind the end, where nobody looks at it."""
    return tl.load(p_list + step // STEPS, mask=step < end, other=0)


@triton.jit
def _places(p_tokens, i_block, step, SIZE: tl.constexpr, ROWS: tl.constexpr):
    """What the table says of the ROWS places of a step in a block: a token, or -1."""
    # [ROWS]
    return tl.load(p_tokens + i_block * SIZE + step % (SIZE // ROWS) * ROWS + tl.arange(0, ROWS))


@triton.jit
def block_sparse_forward(
    p_q, p_k, p_v, p_o, p_lse, p_tokens, p_first, p_keys,
    scale_log2,
    s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn, s_ob, s_oh, s_on, s_eb, s_eh, s_tb, s_fb, s_fh,
    heads, blocks,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, SIZE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """BLOCK_M queries of one block and head; the natural logarithm of their sums of exponents goes to p_lse.

    SIZE is that of a block, D is HEAD_DIM padded to a power of two. UPCAST is for the interpreter alone, whose tl.dot
    multiplies the bit patterns of bfloat16.
    """
    # one grid axis: the second of CUDA's ends at 65535
    parts = blocks * (SIZE // BLOCK_M)
    i_m = tl.program_id(0) % parts
    i_h = (tl.program_id(0) // parts % heads).to(tl.int64)
    i_b = (tl.program_id(0) // parts // heads).to(tl.int64)
    p_tokens += i_b * s_tb
    p_k += i_b * s_kb + i_h * s_kh
    p_v += i_b * s_vb + i_h * s_vh
    ACC: tl.constexpr = p_lse.dtype.element_ty
    o_n, m_n = _token_rows(p_tokens, i_m * BLOCK_M, BLOCK_M)
    # [BLOCK_M, D]
    b_q = load_rows(p_q + i_b * s_qb + i_h * s_qh, o_n * s_qn, m_n, HEAD_DIM, D, True, UPCAST)
    b_max = tl.full([BLOCK_M], float("-inf"), ACC)
    b_sum = tl.zeros([BLOCK_M], ACC)
    b_acc = tl.zeros([BLOCK_M, D], ACC)

    STEPS: tl.constexpr = SIZE // BLOCK_N
    begin, end = _list_of(p_first, i_b, i_h, i_m // (SIZE // BLOCK_M), s_fb, s_fh, STEPS)
    # a step's tokens are read in the step before, and its block in the one before that: the loads of rows then wait
    # for no other load, and so can run ahead by all stages
    b_token = _places(p_tokens, _listed(p_keys, begin, end, STEPS), begin, SIZE, BLOCK_N)
    i_next = _listed(p_keys, begin + 1, end, STEPS)
    for step in range(begin, end):
        o_l, m_l = _rows_of(b_token)
        b_token = _places(p_tokens, i_next, step + 1, SIZE, BLOCK_N)
        i_next = _listed(p_keys, step + 2, end, STEPS)
        # [BLOCK_N, D]
        b_k = load_rows(p_k, o_l * s_kn, m_l, HEAD_DIM, D, True, UPCAST)
        b_v = load_rows(p_v, o_l * s_vn, m_l, HEAD_DIM, D, True, UPCAST)
        b_s = tl.where(m_l[None, :], tl.dot(b_q, tl.trans(b_k), input_precision="ieee"), float("-inf"))
        # a block holds a token, and its first step that one: the maximum is finite from the first step on
        b_p, b_alpha, b_max, b_sum = weigh_scores(b_s, b_max, b_sum, scale_log2, False)
        b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_alpha[:, None], input_precision="ieee")

    # a query that attends to nothing has summed nothing: 0 / 1, not 0 / 0
    b_sum = tl.where(b_sum == 0.0, 1.0, b_sum)
    # [BLOCK_M, D]
    store_rows(p_o + i_b * s_ob + i_h * s_oh, o_n * s_on, b_acc / b_sum[:, None], m_n, HEAD_DIM, D)
    # [BLOCK_M]
    tl.store(p_lse + i_b * s_eb + i_h * s_eh + o_n, (b_max + tl.log2(b_sum)) * LN_2, mask=m_n)


@triton.jit
def block_sparse_backward_queries(
    p_q, p_k, p_v, p_o, p_do, p_dq, p_lse, p_dlse, p_delta, p_tokens, p_first, p_keys,
    scale_log2,
    s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn, s_ob, s_oh, s_on, s_eb, s_eh, s_tb, s_fb, s_fh,
    heads, blocks,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, SIZE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """The gradient of BLOCK_M queries; output, its gradient and that of the queries share strides s_o.

    p_delta gets what the softmax takes off, sum(out * its gradient) less the gradient of the logarithm (p_dlse), for
    `block_sparse_backward_keys`.
    """
    parts = blocks * (SIZE // BLOCK_M)
    i_m = tl.program_id(0) % parts
    i_h = (tl.program_id(0) // parts % heads).to(tl.int64)
    i_b = (tl.program_id(0) // parts // heads).to(tl.int64)
    p_tokens += i_b * s_tb
    p_k += i_b * s_kb + i_h * s_kh
    p_v += i_b * s_vb + i_h * s_vh
    ACC: tl.constexpr = p_lse.dtype.element_ty
    o_n, m_n = _token_rows(p_tokens, i_m * BLOCK_M, BLOCK_M)
    w_o = i_b * s_ob + i_h * s_oh + o_n * s_on
    w_e = i_b * s_eb + i_h * s_eh + o_n
    # [BLOCK_M, D]
    b_q = load_rows(p_q + i_b * s_qb + i_h * s_qh, o_n * s_qn, m_n, HEAD_DIM, D, True, UPCAST)
    b_do = load_rows(p_do, w_o, m_n, HEAD_DIM, D, True, UPCAST)
    b_o = load_rows(p_o, w_o, m_n, HEAD_DIM, D, True, UPCAST)
    # [BLOCK_M]
    b_lse = tl.load(p_lse + w_e, mask=m_n, other=0.0)
    b_delta = tl.sum(b_o.to(ACC) * b_do.to(ACC), 1) - tl.load(p_dlse + w_e, mask=m_n, other=0.0)
    tl.store(p_delta + w_e, b_delta, mask=m_n)
    b_lse = b_lse * LOG2_E
    b_dq = tl.zeros([BLOCK_M, D], ACC)

    STEPS: tl.constexpr = SIZE // BLOCK_N
    begin, end = _list_of(p_first, i_b, i_h, i_m // (SIZE // BLOCK_M), s_fb, s_fh, STEPS)
    # a step's tokens are read in the step before, and its block in the one before that: the loads of rows then wait
    # for no other load, and so can run ahead by all stages
    b_token = _places(p_tokens, _listed(p_keys, begin, end, STEPS), begin, SIZE, BLOCK_N)
    i_next = _listed(p_keys, begin + 1, end, STEPS)
    for step in range(begin, end):
        o_l, m_l = _rows_of(b_token)
        b_token = _places(p_tokens, i_next, step + 1, SIZE, BLOCK_N)
        i_next = _listed(p_keys, step + 2, end, STEPS)
        # [BLOCK_N, D]
        b_k = load_rows(p_k, o_l * s_kn, m_l, HEAD_DIM, D, True, UPCAST)
        b_v = load_rows(p_v, o_l * s_vn, m_l, HEAD_DIM, D, True, UPCAST)
        b_s = tl.where(m_l[None, :], tl.dot(b_q, tl.trans(b_k), input_precision="ieee"), float("-inf"))
        b_p = tl.exp2(b_s * scale_log2 - b_lse[:, None])
        b_dp = tl.dot(b_do, tl.trans(b_v), input_precision="ieee")
        b_ds = b_p * (b_dp - b_delta[:, None])
        b_dq = tl.dot(b_ds.to(b_k.dtype), b_k, b_dq, input_precision="ieee")

    # [BLOCK_M, D]
    store_rows(p_dq, w_o, b_dq * (scale_log2 * LN_2), m_n, HEAD_DIM, D)


@triton.jit
def block_sparse_backward_keys(
    p_q, p_k, p_v, p_do, p_dk, p_dv, p_lse, p_delta, p_tokens, p_first, p_queries,
    scale_log2,
    s_qb, s_qh, s_qn, s_kb, s_kh, s_kn, s_vb, s_vh, s_vn, s_ob, s_oh, s_on, s_eb, s_eh, s_tb, s_fb, s_fh,
    heads, blocks,
    HEAD_DIM: tl.constexpr, D: tl.constexpr, SIZE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """The gradients of BLOCK_N keys and values, strides s_o as those of the output's gradient; scores are transposed.

    p_first and p_queries are the lists of blocks of keys, p_delta is what `block_sparse_backward_queries` wrote.
    """
    parts = blocks * (SIZE // BLOCK_N)
    i_n = tl.program_id(0) % parts
    i_h = (tl.program_id(0) // parts % heads).to(tl.int64)
    i_b = (tl.program_id(0) // parts // heads).to(tl.int64)
    p_tokens += i_b * s_tb
    p_q += i_b * s_qb + i_h * s_qh
    p_do += i_b * s_ob + i_h * s_oh
    p_lse += i_b * s_eb + i_h * s_eh
    p_delta += i_b * s_eb + i_h * s_eh
    ACC: tl.constexpr = p_lse.dtype.element_ty
    o_l, m_l = _token_rows(p_tokens, i_n * BLOCK_N, BLOCK_N)
    # [BLOCK_N, D]
    b_k = load_rows(p_k + i_b * s_kb + i_h * s_kh, o_l * s_kn, m_l, HEAD_DIM, D, True, UPCAST)
    b_v = load_rows(p_v + i_b * s_vb + i_h * s_vh, o_l * s_vn, m_l, HEAD_DIM, D, True, UPCAST)
    b_dk = tl.zeros([BLOCK_N, D], ACC)
    b_dv = tl.zeros([BLOCK_N, D], ACC)

    STEPS: tl.constexpr = SIZE // BLOCK_M
    begin, end = _list_of(p_first, i_b, i_h, i_n // (SIZE // BLOCK_N), s_fb, s_fh, STEPS)
    # a step's tokens are read in the step before, and its block in the one before that: the loads of rows then wait
    # for no other load, and so can run ahead by all stages
    b_token = _places(p_tokens, _listed(p_queries, begin, end, STEPS), begin, SIZE, BLOCK_M)
    i_next = _listed(p_queries, begin + 1, end, STEPS)
    for step in range(begin, end):
        o_n, m_n = _rows_of(b_token)
        b_token = _places(p_tokens, i_next, step + 1, SIZE, BLOCK_M)
        i_next = _listed(p_queries, step + 2, end, STEPS)
        # [BLOCK_M, D]
        b_q = load_rows(p_q, o_n * s_qn, m_n, HEAD_DIM, D, True, UPCAST)
        b_do = load_rows(p_do, o_n * s_on, m_n, HEAD_DIM, D, True, UPCAST)
        # [BLOCK_M]
        b_lse = tl.load(p_lse + o_n, mask=m_n, other=0.0) * LOG2_E
        b_delta = tl.load(p_delta + o_n, mask=m_n, other=0.0)
        # [BLOCK_N, BLOCK_M]
        b_s = tl.where(m_n[None, :], tl.dot(b_k, tl.trans(b_q), input_precision="ieee"), float("-inf"))
        b_p = tl.exp2(b_s * scale_log2 - b_lse[None, :])
        b_dv = tl.dot(b_p.to(b_do.dtype), b_do, b_dv, input_precision="ieee")
        b_dp = tl.dot(b_v, tl.trans(b_do), input_precision="ieee")
        b_ds = b_p * (b_dp - b_delta[None, :])
        b_dk = tl.dot(b_ds.to(b_q.dtype), b_q, b_dk, input_precision="ieee")

    w_o = i_b * s_ob + i_h * s_oh + o_l * s_on
    # [BLOCK_N, D]
    store_rows(p_dk, w_o, b_dk * (scale_log2 * LN_2), m_l, HEAD_DIM, D)
    store_rows(p_dv, w_o, b_dv, m_l, HEAD_DIM, D)

"""QK-norm and rotation as one operator of torch: shapes, strides, its shape-only twin and its gradient."""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from videogen.kernels.fused._launch import on_device, programs, sum_dtype, wide
from videogen.kernels.fused._qk_norm_rope_kernels import (
    NO_TURNS,
    SHARED_TURNS,
    TURNS_OF_HEADS,
    constants,
    qk_norm_rope_backward,
    qk_norm_rope_forward,
    warps_of,
)


@torch.library.custom_op("videogen::qk_norm_rope", mutates_args=())
def qk_norm_rope(
    q: Tensor,
    k: Tensor,
    weight_q: Tensor | None,
    weight_k: Tensor | None,
    bias_q: Tensor | None,
    bias_k: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    runs: Sequence[int],
    norm: str,
    across: bool,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """q and k (B, N, heads, head_dim), last stride 1 -> normalised and turned, contiguous.

    Args:
        weight_q: of the norm of queries, (head_dim,) or (heads * head_dim,); there for both or for neither.
        weight_k: the same of keys.
        bias_q: the same.
        bias_k: the same.
        cos: (N, 1 or heads, head_dim) or (1 or B, N, …), last stride 1.
        sin: the same, of the same strides.
        runs: see `videogen.kernels.fused.Turns`.
        norm: "none", "rms" or "layer".
        across: the norm is over all heads at once.
        eps: of the norm.
    """
    out_q, out_k = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    if q.numel() == 0:
        return out_q, out_k
    batch, tokens, heads, head_dim = q.shape
    table = _table(cos, sin, q)
    fixed = constants(heads, head_dim, norm, across, weight_q is not None, bias_q is not None, table.kind, tuple(runs))
    with on_device(q):
        qk_norm_rope_forward[(batch * tokens,)](
            *(q, k, out_q, out_k, *_given(q, weight_q, weight_k, bias_q, bias_k), table.cos, table.sin),
            *(*q.stride()[:3], *k.stride()[:3], *table.strides, tokens, eps),
            **fixed,
            WIDE=wide(q.dtype),
            num_warps=warps_of(heads, head_dim),
        )
    return out_q, out_k


@torch.library.custom_op("videogen::qk_norm_rope_backward", mutates_args=())
def qk_norm_rope_gradient(
    grad_q: Tensor,
    grad_k: Tensor,
    q: Tensor,
    k: Tensor,
    weight_q: Tensor | None,
    weight_k: Tensor | None,
    bias_q: Tensor | None,
    bias_k: Tensor | None,
    cos: Tensor | None,
    sin: Tensor | None,
    runs: Sequence[int],
    norm: str,
    across: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q and k, and (2, …) of both weights and of both biases, in float32 or wider; empty without them."""
    batch, tokens, heads, head_dim = q.shape
    dq, dk = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    count = programs(q.device, batch * tokens)
    dw, db = (
        torch.zeros((2, 0 if part is None else count, heads, head_dim), dtype=sum_dtype(q.dtype), device=q.device)
        for part in (weight_q, bias_q)
    )
    if q.numel():
        table = _table(cos, sin, q)
        fixed = constants(
            *(heads, head_dim, norm, across, weight_q is not None, bias_q is not None, table.kind, tuple(runs))
        )
        with on_device(q):
            qk_norm_rope_backward[(count,)](
                *(q, k, grad_q, grad_k, *_given(q, weight_q, weight_k), table.cos, table.sin),
                *(dq, dk, *dw.unbind(0), *db.unbind(0)),
                *(*q.stride()[:3], *k.stride()[:3], *grad_q.stride()[:3], *grad_k.stride()[:3], *table.strides),
                *(batch * tokens, tokens, eps),
                **fixed,
                WIDE=wide(q.dtype),
                num_warps=warps_of(heads, head_dim),
            )
    # programs' shares, (2, programs, heads, head_dim), and of one head's weight those of all heads
    dw, db = (part.sum(1).flatten(1) if across else part.sum((1, 2)) for part in (dw, db))
    return dq, dk, dw, db


class _Table(NamedTuple):
    """Turns as the kernels read them: two tensors, the strides of batch, token and head, and ROPE."""

    cos: Tensor
    sin: Tensor
    strides: tuple[int, int, int]
    kind: int


def _table(cos: Tensor | None, sin: Tensor | None, unread: Tensor) -> _Table:
    if cos is None or sin is None:
        return _Table(unread, unread, (0, 0, 0), NO_TURNS)
    batch = cos.stride(0) if cos.ndim == 4 and cos.shape[0] > 1 else 0
    shared = cos.shape[-2] == 1
    strides = (batch, cos.stride(-3), 0 if shared else cos.stride(-2))
    return _Table(cos, sin, strides, SHARED_TURNS if shared else TURNS_OF_HEADS)


def _given(unread: Tensor, *parts: Tensor | None) -> list[Tensor]:
    # a kernel takes a pointer where it reads nothing, too
    return [unread if part is None else part for part in parts]


@qk_norm_rope.register_fake
def _(q: Tensor, k: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


@qk_norm_rope_gradient.register_fake
def _(grad_q: Tensor, grad_k: Tensor, q: Tensor, k: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = q.shape[-2] * q.shape[-1] if settings[-2] else q.shape[-1]
    dw, db = (torch.empty((2, width), dtype=sum_dtype(q.dtype), device=q.device) for _ in range(2))
    return q.new_empty(q.shape), k.new_empty(k.shape), dw, db


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.settings = inputs[8:]


def _backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    # attention gives gradients of heads outermost: any stride will do but that of the channels
    grads = [grad if grad.stride(-1) == 1 else grad.contiguous() for grad in (grad_q, grad_k)]
    dq, dk, dw, db = qk_norm_rope_gradient(*grads, *tensors, *ctx.settings)
    parts = (None if like is None else grad.to(like.dtype) for grad, like in zip((*dw, *db), tensors[2:6], strict=True))
    return dq, dk, *parts, *[None] * 6


qk_norm_rope.register_autograd(_backward, setup_context=_remember)

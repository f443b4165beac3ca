"""Gated residual, norm, scale and shift as one operator of torch: its shape-only twin and its gradient."""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videogen.kernels.fused._launch import on_device, power, programs, sum_dtype, wide
from videogen.kernels.fused._residual_norm_kernels import (
    residual_norm_backward,
    residual_norm_forward,
    stages_of,
    warps_of,
)


@torch.library.custom_op("videogen::residual_norm", mutates_args=())
def residual_norm(
    tokens: Tensor,
    out: Tensor,
    gate: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor | None,
    scale: Tensor,
    layer: bool,
    eps: float,
    new_dtype: torch.dtype,
    entered_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """new = tokens + gate * out, norm(new) * (1 + scale) + shift, and mean and 1 / deviation of each row of new.

    Args:
        tokens: (B, N, D), last stride 1 as that of all others.
        out: (B, N, D).
        gate: (B, 1 or N, D), the same length for all three signals; None is 1.
        weight: of the norm, (D,).
        bias: of the norm, (D,).
        shift: (B, 1 or N, D); None is 0.
        scale: (B, 1 or N, D).
        layer: LayerNorm; otherwise RMSNorm.
        eps: of the norm.
        new_dtype: of the first result.
        entered_dtype: of the second.
    """
    batch, count, width = tokens.shape
    new, entered, stats = _results(tokens, new_dtype, entered_dtype)
    if tokens.numel():
        with on_device(tokens):
            residual_norm_forward[(batch * count,)](
                *(tokens, out, *_given(tokens, gate, weight, bias, shift), scale, new, entered, stats),
                *(*_steps(tokens), *_steps(out), *_steps(gate), *_steps(shift), *_steps(scale)),
                *(count, eps),
                **_constants(tokens, gate, weight, bias, shift, layer),
                BLOCK_D=power(width),
                num_warps=warps_of(width),
            )
    return new, entered, stats


@torch.library.custom_op("videogen::residual_norm_backward", mutates_args=())
def residual_norm_gradient(
    grad_new: Tensor,
    grad_entered: Tensor,
    new: Tensor,
    stats: Tensor,
    out: Tensor,
    gate: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor | None,
    scale: Tensor,
    layer: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of tokens, out, gate, shift, scale, weight, bias; empty for what isn't there, or is that of tokens."""
    batch, count, width = new.shape
    # programs of a sample, each of which leaves one partial sum
    chunks = max(1, min(count, programs(new.device, batch * count) // max(1, batch)))
    rows = (batch, chunks, width) if scale.shape[1] == 1 else (batch, count, width)
    sums = sum_dtype(new.dtype)
    dx = torch.empty_like(new)
    da = _empty(new, None if gate is None else new.shape, out.dtype)
    signals = [_empty(new, None if part is None else rows, sums) for part in (gate, shift, scale)]
    weights = [_empty(new, None if part is None else (batch, chunks, width), sums) for part in (weight, bias)]
    if new.numel():
        with on_device(new):
            residual_norm_backward[(batch * chunks,)](
                *(new, out, *_given(new, gate, weight, bias), scale, stats, grad_new, grad_entered),
                *(dx, da, *signals, *weights),
                *(*_steps(out), *_steps(gate), *_steps(scale), count, chunks),
                **_constants(new, gate, weight, bias, shift, layer),
                BLOCK_D=power(width),
                PER_TOKEN=scale.shape[1] != 1,
                STAGES=stages_of(width, new.element_size()),
                num_warps=warps_of(width),
            )
    if scale.shape[1] == 1:
        signals = [part if part.ndim == 1 else part.sum(1, keepdim=True) for part in signals]
    dgate, dshift, dscale = signals
    dw, db = (part if part.ndim == 1 else part.sum((0, 1)) for part in weights)
    return dx, da, dgate, dshift, dscale, dw, db


def _constants(
    tokens: Tensor, gate: Tensor | None, weight: Tensor | None, bias: Tensor | None, shift: Tensor | None, layer: bool
) -> dict[str, Any]:
    there = {"GATE": gate, "SHIFT": shift, "WEIGHT": weight, "BIAS": bias}
    present = {name: part is not None for name, part in there.items()}
    return {"D": tokens.shape[-1], "LAYER": layer, **present, "WIDE": wide(sum_dtype(tokens.dtype))}


def _results(tokens: Tensor, new_dtype: torch.dtype, entered_dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    shape = tokens.shape
    new, entered = (torch.empty(shape, dtype=dtype, device=tokens.device) for dtype in (new_dtype, entered_dtype))
    return new, entered, torch.empty((*shape[:2], 2), dtype=sum_dtype(tokens.dtype), device=tokens.device)


def _empty(like: Tensor, shape: Any, dtype: torch.dtype) -> Tensor:
    return torch.empty((0,) if shape is None else shape, dtype=dtype, device=like.device)


def _given(unread: Tensor, *parts: Tensor | None) -> list[Tensor]:
    # a kernel takes a pointer where it reads nothing, too
    return [unread if part is None else part for part in parts]


def _steps(part: Tensor | None) -> tuple[int, int]:
    """Strides of batch and token, zero along what is the same for all."""
    if part is None:
        return 0, 0
    return part.stride(0), 0 if part.shape[1] == 1 else part.stride(1)


@residual_norm.register_fake
def _(tokens: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _results(tokens, *settings[-2:])


@residual_norm_gradient.register_fake
def _(
    grad_new: Tensor,
    grad_entered: Tensor,
    new: Tensor,
    stats: Tensor,
    out: Tensor,
    gate: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    shift: Tensor | None,
    scale: Tensor,
    layer: bool,
) -> tuple[Tensor, ...]:
    sums = sum_dtype(new.dtype)
    signals = [_empty(new, None if part is None else part.shape, sums) for part in (gate, shift, scale)]
    weights = [_empty(new, None if part is None else part.shape, sums) for part in (weight, bias)]
    da = _empty(new, None if gate is None else new.shape, out.dtype)
    return torch.empty_like(new), da, *signals, *weights


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    tokens, out, gate, weight, bias, shift, scale, ctx.layer, *_ = inputs
    new, _, stats = output
    ctx.dtypes = tokens.dtype, out.dtype
    ctx.save_for_backward(new, stats, out, gate, weight, bias, shift, scale)
    ctx.mark_non_differentiable(stats)


def _backward(ctx: Any, grad_new: Tensor, grad_entered: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    new, stats, out, gate, weight, bias, shift, scale = ctx.saved_tensors
    grads = grad_new.contiguous(), grad_entered.contiguous()
    dx, da, *rest = residual_norm_gradient(*grads, new, stats, out, gate, weight, bias, shift, scale, ctx.layer)
    dtokens, dout = ctx.dtypes
    dgate, dshift, dscale, dw, db = (
        None if like is None else part.to(like.dtype)
        for part, like in zip(rest, (gate, shift, scale, weight, bias), strict=True)
    )
    return dx.to(dtokens), (dx.to(dout) if gate is None else da), dgate, dw, db, dshift, dscale, *[None] * 4


residual_norm.register_autograd(_backward, setup_context=_remember)

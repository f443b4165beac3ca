"""The gate of a gated linear unit as one operator of torch: its shape-only twin and its gradient."""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videogen.kernels.fused._gated_kernels import ACTIVATIONS, BLOCK, WARPS, gated_backward, gated_forward
from videogen.kernels.fused._launch import on_device, sum_dtype, wide


@torch.library.custom_op("videogen::gated", mutates_args=())
def gated(packed: Tensor, activation: str) -> Tensor:
    """(rows, 2 D), last stride 1 -> value * activation(gate), (rows, D), of value in front and gate behind.

    Args:
        packed: value and gate.
        activation: "gelu" or "silu".
    """
    rows, width = packed.shape[0], packed.shape[1] // 2
    out = torch.empty((rows, width), dtype=packed.dtype, device=packed.device)
    if out.numel():
        with on_device(packed):
            gated_forward[(rows * -(-width // BLOCK),)](
                packed, out, packed.stride(0), **_constants(packed, activation), num_warps=WARPS
            )
    return out


@torch.library.custom_op("videogen::gated_backward", mutates_args=())
def gated_gradient(grad: Tensor, packed: Tensor, activation: str) -> Tensor:
    """The gradient of `packed`, contiguous; `grad` is contiguous too."""
    rows, width = grad.shape
    out = torch.empty(packed.shape, dtype=packed.dtype, device=packed.device)
    if out.numel():
        with on_device(packed):
            gated_backward[(rows * -(-width // BLOCK),)](
                packed, grad, out, packed.stride(0), **_constants(packed, activation), num_warps=WARPS
            )
    return out


def _constants(packed: Tensor, activation: str) -> dict[str, Any]:
    precision = wide(sum_dtype(packed.dtype))
    return {"WIDTH": packed.shape[1] // 2, "ACTIVATION": ACTIVATIONS[activation], "BLOCK": BLOCK, "WIDE": precision}


@gated.register_fake
def _(packed: Tensor, activation: str) -> Tensor:
    return packed.new_empty((packed.shape[0], packed.shape[1] // 2))


@gated_gradient.register_fake
def _(grad: Tensor, packed: Tensor, activation: str) -> Tensor:
    return packed.new_empty(packed.shape)


def _remember(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
    packed, ctx.activation = inputs
    ctx.save_for_backward(packed)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (packed,) = ctx.saved_tensors
    return gated_gradient(grad.contiguous(), packed, ctx.activation), None


gated.register_autograd(_backward, setup_context=_remember)

"""The arithmetic between the products, in as few passes over memory as torch has operators for."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def rms_norm(
    x: Float[Tensor, "*shape d"], weight: Float[Tensor, " d"] | None, eps: float | None
) -> Float[Tensor, "*shape d"]:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, https://arxiv.org/abs/1910.07467; keeps the dtype of x.

    The weight may be of another dtype than x, as autocast leaves it. An eps of None is that of the dtype.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.rms_norm(x, x.shape[-1:], None if weight is None else weight.to(x.dtype), eps)
    # torch has no kernel of its own for a CPU: it writes the squares down before it sums them
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / x.shape[-1]
    out = wide * (mean + (torch.finfo(wide.dtype).eps if eps is None else eps)).rsqrt()
    if weight is not None:
        out = out * weight if torch.is_grad_enabled() else out.mul_(weight)
    return out.to(x.dtype)


def mix(start: Tensor, factor: Tensor, x: Tensor) -> Tensor:
    """start + factor * x, (B, N, D); x isn't needed any more, and where no gradient asks for it, it is written over."""
    # autocast leaves the stream of tokens wider than what a branch gives
    fits = start.dtype == factor.dtype == x.dtype and not torch.is_grad_enabled()
    return torch.addcmul(start, factor, x, out=x if fits else None)


def linear_gelu(layer: nn.Module, x: Float[Tensor, "*shape d"], approximate: Literal["tanh", "none"]) -> Tensor:
    """GELU of a linear layer, (…, D) -> (…, hidden)."""
    if not _in_one(layer, x):
        return F.gelu(layer(x), approximate=approximate)
    # torch's GELU for a CPU takes as long as the product before it, where that is in bfloat16
    fused = torch.ops.mkldnn._linear_pointwise
    out: Tensor = fused(x, layer.weight, layer.bias, "gelu", [], approximate)
    return out


def _in_one(layer: nn.Module, x: Tensor) -> bool:
    """Whether oneDNN computes the product with what follows it: on a CPU, without gradients or autocast.

    What stands in for a linear layer, as an adapter does, has a product of its own.
    """
    return (
        type(layer) is nn.Linear
        and x.device.type == "cpu"
        and x.dtype == layer.weight.dtype
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))
        and torch.backends.mkldnn.is_available()
        and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    )

"""The arithmetic between the products, in as few passes over memory as torch has operators for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from videogen.kernels.fused._linear_gelu import BFLOAT16, ONEDNN, in_one
from videogen.kernels.fused._reference import mix as mix


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
    out = scaled(wide, (mean + (torch.finfo(wide.dtype).eps if eps is None else eps)).rsqrt(), wide is not x)
    return (out if weight is None else scaled(out, weight, True)).to(x.dtype)


def scaled(x: Tensor, factor: Tensor, spare: bool) -> Tensor:
    """x * factor; written over x if that is spare and no gradient asks for it."""
    return x.mul_(factor) if spare and not torch.is_grad_enabled() else x * factor


def linear_gelu(layer: nn.Module, x: Float[Tensor, "*shape d"], approximate: str) -> Tensor:
    """GELU of a linear layer, (…, D) -> (…, hidden); `approximate` is "tanh" or "none"."""
    # what stands in for a layer, as an adapter does, has a product of its own
    if type(layer) is not nn.Linear or torch.is_grad_enabled():
        return F.gelu(layer(x), approximate=approximate)
    if _in_one(x, layer.weight):
        # torch's GELU for a CPU takes as long as the product before it, where that is in bfloat16
        out = in_one(x, layer.weight, layer.bias, approximate)
    else:
        out = torch.ops.aten.gelu_(layer(x), approximate=approximate)
    found: Tensor = out
    return found


def _in_one(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can compute a product together with what follows it."""
    if x.device.type != "cpu" or not ONEDNN:
        return False
    if x.dtype != weight.dtype or torch.is_autocast_enabled("cpu"):
        return False
    return x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and BFLOAT16)

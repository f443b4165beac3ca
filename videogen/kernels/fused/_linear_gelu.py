"""GELU within the product before it, by oneDNN, which computes such a pair on CPUs as one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

#: whether torch has oneDNN here, and whether that has products in bfloat16 on this CPU
ONEDNN = torch.backends.mkldnn.is_available()
BFLOAT16 = ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()


# an operator of its own, since torch's compiler takes oneDNN's with weights that are constants alone
@torch.library.custom_op("videogen::linear_gelu", mutates_args=())
def in_one(x: Tensor, weight: Tensor, bias: Tensor | None, approximate: str) -> Tensor:
    """GELU of a product, (…, D) -> (…, hidden), by oneDNN."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], approximate)
    return out


@in_one.register_fake
def _shape(x: Tensor, weight: Tensor, bias: Tensor | None, approximate: str) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@register_flop_formula(torch.ops.videogen.linear_gelu)
def _flops(x: torch.Size, weight: torch.Size, *args: Any, **kwargs: Any) -> int:
    """What it says to those who count operations, a multiply-add as two."""
    return 2 * math.prod(x) * weight[0]

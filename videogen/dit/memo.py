"""What depends on the condition alone is computed once for all steps of a sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from videogen.dit.autocast import autocast_dtype


def remembered(memo: dict[Any, Any] | None, layer: nn.Module, weight: Tensor, compute: Callable[[], Any]) -> Any:
    """What `compute` gives, from the memo if it was asked there before with these weights and this precision.

    A compiled block computes it each time: its graph keeps nothing.
    """
    if memo is None or torch.compiler.is_compiling():
        return compute()
    stamp = weight._version, weight.data_ptr(), autocast_dtype(weight.device) or weight.dtype
    if layer not in memo or memo[layer][0] != stamp:
        memo[layer] = stamp, compute()
    return memo[layer][1]

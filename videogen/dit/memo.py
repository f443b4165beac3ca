"""What depends on the condition alone is computed once for all steps of a sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def remembered(memo: dict[Any, Any] | None, layer: nn.Module, weight: Tensor, compute: Callable[[], Any]) -> Any:
    """What `compute` gives, from the memo if it was asked there before with these weights and this precision."""
    if memo is None:
        return compute()
    stamp = weight._version, weight.data_ptr(), _precision(weight)
    if layer not in memo or memo[layer][0] != stamp:
        memo[layer] = stamp, compute()
    return memo[layer][1]


def _precision(weight: Tensor) -> torch.dtype:
    """That in which a layer with this weight computes."""
    device = weight.device.type
    # there is no autocast where there are no numbers
    autocast = device != "meta" and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if autocast else weight.dtype

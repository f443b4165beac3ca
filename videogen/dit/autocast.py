"""Autocast, where there is any: the meta device, on which a model is looked through, has none."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """In what products are computed there now, if autocast says so."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """In which nothing is rounded to a narrower type."""
    return contextlib.nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)

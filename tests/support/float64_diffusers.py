"""diffusers' schedulers in float64: where their code says float32, and where it takes the default, it gets float64."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Lifted:
    """A module of numbers whose float32 is float64."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module, self.float32 = module, module.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@functools.cache
def beta_quantile(share: float, first: float, second: float) -> float:
    """What scipy.stats.beta.ppf is, which these schedulers ask for: the share's place, by halving."""
    low, high = 0.0, 1.0
    for _ in range(56):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_share(middle, first, second) < share else (low, middle)
    return (low + high) / 2


def beta_share(value: float, first: float, second: float) -> float:
    """The regularized incomplete beta function, by its continued fraction from the far end (DLMF 8.17.22)."""
    if value in (0, 1):
        return value
    if value > (first + 1) / (first + second + 2):
        return 1 - beta_share(1 - value, second, first)
    whole = math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
    rest = 0.0
    for index in range(24, 0, -1):
        half, odd = divmod(index, 2)
        ends = (first + 2 * half) * (first + 2 * half + (1 if odd else -1))
        top = -(first + half) * (first + second + half) if odd else half * (second - half)
        rest = top * value / ends / (1 + rest)
    return math.exp(first * math.log(value) + second * math.log1p(-value) - whole) / first / (1 + rest)


@contextlib.contextmanager
def float64(kind: type, draw: Callable[[], Tensor]) -> Iterator[None]:
    """In here all code of a scheduler's module computes in float64, and draws its noise from `draw`."""
    module = sys.modules[kind.__module__]
    quantile = types.SimpleNamespace(stats=types.SimpleNamespace(beta=types.SimpleNamespace(ppf=beta_quantile)))
    changed = {
        "torch": Lifted(torch),
        "np": Lifted(np),
        "scipy": quantile,
        "is_scipy_available": lambda: True,
        "randn_tensor": lambda *shape, **like: draw(),
    }
    before = {name: module.__dict__.get(name) for name in changed}
    default = torch.get_default_dtype()
    module.__dict__.update(changed)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
        module.__dict__.update(before)

"""diffusers' schedulers in float64: where their code says float32, and where it takes the default, it gets float64."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor


class Lifted:
    """A module of numbers whose float32 is float64."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module, self.float32 = module, module.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def beta_quantile(share: float, first: float, second: float) -> float:
    """What scipy.stats.beta.ppf is, which these schedulers ask for."""
    if share in (0, 1):
        return float(share)
    above = lambda value: mpmath.betainc(first, second, 0, value, regularized=True) - share  # noqa: E731
    return float(mpmath.findroot(above, (mpmath.mpf("1e-18"), 1 - mpmath.mpf("1e-18")), solver="anderson", tol=1e-28))


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

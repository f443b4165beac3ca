"""What tests on a card share: where they run, random inputs, and how far from float64 a kernel may lead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.kernels._triton import INTERPRETED

ON_CARD = torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if ON_CARD else "cpu"
#: root mean square of the error by that of the result: one rounding of operands, weights and results each, where a
#: wrong row, a lost mask or TF32 in place of float32 make a hundred times as much
ALLOWED = {torch.float64: 1e-12, torch.float32: 4e-6, torch.float16: 1.5e-3, torch.bfloat16: 1e-2}
#: the largest error by the largest result, in units of the above
PEAK = 4

skipped = pytest.mark.skipif(
    not (ON_CARD or INTERPRETED), reason="needs a CUDA device; TRITON_INTERPRET=1 runs it on a CPU"
)
needs_card = pytest.mark.skipif(not ON_CARD, reason="needs a CUDA device")
skipped_before_hopper = pytest.mark.skipif(
    ON_CARD and torch.cuda.get_device_capability() < (9, 0), reason="needs compute capability 9.0 (Hopper)"
)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """The same numbers on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def autograd(run: Callable[..., Any], inputs: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The result, and the gradients of the inputs from one random gradient of it."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out: Tensor = run(*leaves)
    return out.detach(), torch.autograd.grad(out, leaves, random(*out.shape, seed=99).to(out.dtype))


def assert_near(got: Tensor, wanted: Tensor, what: str, times: float = 1, least: float = 1e-3) -> None:
    """Within `ALLOWED` of its dtype, `times` over, of a float64 result of the same shape and of a size from `least`.

    Of terms of size one that cancel each other, as in the gradient of a softmax over one key, rounding is what is left.
    """
    assert got.shape == wanted.shape
    assert got.isfinite().all(), f"{what}: {int((~got.isfinite()).sum())} of {got.numel()} are not finite"
    allowed, off = times * ALLOWED[got.dtype], got.double() - wanted
    size = max(float(wanted.square().mean().sqrt()), least)
    error = float(off.square().mean().sqrt()) / size
    assert error <= allowed, f"{what}: off by {error:.2e} of {size:.2e}, {allowed:.2e} allowed"
    peak = float(off.abs().max() / wanted.abs().max().clamp_min(least))
    assert peak <= PEAK * allowed, f"{what}: the largest error is {peak:.2e}, {PEAK * allowed:.2e} allowed"

"""How far from float64 a fused operation may lead: not much further than torch's own operators of its precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from videogen.kernels.fused import FUSED, Fused

Operation = Callable[[Fused, Sequence[Tensor]], Sequence[Tensor]]


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def distance(got: Tensor, wanted: Tensor) -> float:
    """The largest error, as a share of the largest value wanted."""
    assert got.shape == wanted.shape
    if not wanted.numel():
        return 0.0
    return float(((got.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30)).detach())


def assert_as_good_as_torch(run: Operation, inputs: Sequence[Tensor], ops: Fused | None = None) -> None:
    """`run(ops, inputs)` of fused operations beside that of plain ones, and of plain ones in float64; gradients too.

    Allowed is twice the error of the plain operations, or thrice that of their gradients, and never less than two units
    in the last place: the interpreter cuts bits off where hardware rounds to the nearest.
    """
    fused, plain = ops or FUSED.build("triton"), FUSED.build("torch")
    least = 2 * max(torch.finfo(part.dtype).eps for part in inputs)
    results = []
    for kind, wide in ((fused, False), (plain, False), (plain, True)):
        leaves = [(part.double() if wide else part).detach().requires_grad_() for part in inputs]
        out = list(run(kind, leaves))
        generator = torch.Generator().manual_seed(1)
        upstream = [torch.randn(part.shape, generator=generator, dtype=torch.float64).to(part) for part in out]
        results.append((out, torch.autograd.grad(out, leaves, upstream, allow_unused=True)))
    (out, grads), (plain_out, plain_grads), (true_out, true_grads) = results
    for got, other, true in zip(out, plain_out, true_out, strict=True):
        allowed = max(least, 2 * distance(other, true))
        assert distance(got, true) <= allowed, f"{distance(got, true):.2e} off, {allowed:.2e} allowed"
    for i, (got, other, true) in enumerate(zip(grads, plain_grads, true_grads, strict=True)):
        assert (got is None) == (true is None)
        if got is not None and other is not None and true is not None:
            allowed = max(2 * least, 3 * distance(other, true))
            assert distance(got, true) <= allowed, f"gradient {i}: {distance(got, true):.2e}, {allowed:.2e} allowed"

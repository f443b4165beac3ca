"""The gate of a gated linear unit in one kernel."""

from __future__ import annotations

import pytest
import torch
from fused_truth import assert_as_good_as_torch, device
from guarded import fenced, watched

from videogen.kernels.fused import FUSED, Activation

pytest.importorskip("triton")

from videogen.kernels.fused._launch import DEVICES

pytestmark = pytest.mark.skipif(device() not in DEVICES, reason="test_in_the_interpreter runs this one")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", ["gelu", "silu"])
@pytest.mark.parametrize("width", [7, 1031])
def test_matches_float64(width: int, activation: Activation, dtype: torch.dtype) -> None:
    packed = (3 * torch.randn(2, 3, 2 * width, generator=torch.Generator().manual_seed(0))).to(device(), dtype)
    assert_as_good_as_torch(lambda ops, inputs: [ops.gated(inputs[0], activation)], [packed])


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_gradients_are_those_of_the_function(activation: Activation) -> None:
    packed = torch.randn(3, 10, dtype=torch.float64, device=device()).requires_grad_()
    ops = FUSED.build("triton")
    assert torch.autograd.gradcheck(lambda x: ops.gated(x, activation), (packed,), fast_mode=True)


def test_reads_and_writes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = fenced(torch.randn(5, 22, device=device())).requires_grad_()
    with watched(monkeypatch):
        out = FUSED.build("triton").gated(packed, "gelu")
        out.backward(torch.ones_like(out))
    assert out.isfinite().all()
    assert packed.grad is not None
    assert packed.grad.isfinite().all()


# opcheck looks at what it made itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_keep_torchs_contracts() -> None:
    from videogen.kernels.fused._gated import gated

    torch.library.opcheck(gated, (torch.randn(3, 10, device=device(), requires_grad=True), "silu"))

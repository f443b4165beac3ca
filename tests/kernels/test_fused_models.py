"""Whole models with fused operations: the same numbers and gradients as plain ones, compiled without a break."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fused_truth import device
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.model import DiT
from videogen.dit.parts import choose
from videogen.dit.positions import POSITIONS
from videogen.kernels.fused import FUSED

pytest.importorskip("triton")

from videogen.kernels.fused._launch import DEVICES

pytestmark = pytest.mark.skipif(device() not in DEVICES, reason="test_in_the_interpreter runs this one")

CASES: list[dict[str, Any]] = [
    {"block": "factorized", "mlp": "swiglu"},
    {"block": "double", "mlp": "geglu", "modulation": "sandwich", "norm": "rms", "qk_norm": "rms_heads"},
    {"block": "expert", "qk_norm": "layer", "modulation": "adaln_single", "norm": {"name": "layer", "affine": True}},
    {"block": "stdit", "position": "none", "qk_norm": "none"},
]


def models(**parts: Any) -> tuple[DiT, DiT]:
    """The same model twice, with plain and with fused operations."""
    torch.manual_seed(0)
    plain = DiT(3, 10, choose(**parts), dim=24, depth=1, num_heads=2)
    for value in plain.parameters():
        value.data = torch.randn_like(value) / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else value.data + 0.1
    fused = DiT(3, 10, choose(fused=FUSED.build("triton"), **parts), dim=24, depth=1, num_heads=2)
    fused.load_state_dict(plain.state_dict())
    return plain.to(device()), fused.to(device())


def inputs() -> tuple[Tensor, Tensor, Condition]:
    generator = torch.Generator().manual_seed(1)
    latents, text, pooled = (
        torch.randn(shape, generator=generator).to(device()) for shape in ((1, 3, 2, 4, 2), (1, 5, 10), (1, 10))
    )
    return latents, torch.tensor([0.7], device=device()), Condition(text=text, pooled=pooled)


@pytest.mark.parametrize("parts", CASES, ids=lambda parts: parts["block"])
def test_equals_the_plain_model(parts: dict[str, Any]) -> None:
    plain, fused = models(**parts)
    out = [model(*inputs()) for model in (plain, fused)]
    torch.testing.assert_close(out[1], out[0], rtol=1e-4, atol=1e-5)
    for made in out:
        made.square().sum().backward()
    for (name, wanted), got in zip(plain.named_parameters(), fused.parameters(), strict=True):
        if wanted.grad is not None:
            assert got.grad is not None, name
            size = wanted.grad.abs().max().clamp_min(1e-6)
            assert float((got.grad - wanted.grad).abs().max() / size) < 1e-4, name


class Layer(nn.Module):
    """All three operations in a row, as a block has them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_q, self.norm_k, self.norm = nn.RMSNorm(8), nn.RMSNorm(8), nn.LayerNorm(16)
        self.ops, self.turns = (
            FUSED.build("triton"),
            POSITIONS.build("rope", 16, 2).rotary((1, 1, 3), torch.device("cpu")),
        )

    def forward(self, qkv: Tensor, tokens: Tensor, signals: Tensor) -> Tensor:
        q, k, v = qkv.unflatten(-1, (3, 2, 8)).unbind(2)
        q, k = self.ops.qk_norm_rope(q, k, self.norm_q, self.norm_k, self.turns)
        gate, shift, scale = signals.chunk(3, -1)
        tokens, seen = self.ops.residual_norm(tokens, (q * k + v).flatten(2), gate, self.norm, shift, scale)
        return torch.cat([tokens[..., :8], self.ops.gated(seen, "silu")], -1)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.skipif(device() != "cpu", reason="the layer is made for a CPU")
def test_compiles_without_a_break() -> None:
    torch.manual_seed(0)
    layer, given = Layer(), [torch.randn(1, length, width) for length, width in ((3, 48), (3, 16), (1, 48))]
    # the compiler's front and its gradients, without the code that it would write for this machine
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    grads = []
    for run in (layer, compiled):
        layer.zero_grad()
        out = run(*given)
        out.square().sum().backward()
        grads.append([out.detach(), *(value.grad for value in layer.parameters())])
    for wanted, got in zip(*grads, strict=True):
        assert wanted is not None
        torch.testing.assert_close(got, wanted)


def test_an_operation_can_be_left_to_torch() -> None:
    plain, _ = models(**CASES[0])
    ops = FUSED.build("triton", qk_norm_rope=False, residual_norm=False, gated=False)
    part = DiT(3, 10, choose(fused=ops, **CASES[0]), dim=24, depth=1, num_heads=2).to(device())
    part.load_state_dict(plain.state_dict())
    assert torch.equal(plain(*inputs()), part(*inputs()))

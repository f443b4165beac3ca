"""Gated residual, norm, scale and shift in one kernel: every optional part, odd sizes, strides, mixed precision."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from fused_truth import assert_as_good_as_torch, device
from guarded import fenced, watched
from torch import Tensor, nn
from torch.func import functional_call

from videogen.kernels.fused import FUSED, Fused

pytest.importorskip("triton")

from videogen.kernels.fused._launch import DEVICES

pytestmark = pytest.mark.skipif(device() not in DEVICES, reason="test_in_the_interpreter runs this one")

# tokens that the programs of the backward pass don't share evenly, and channels that are no power of two
B, N, D = 2, 35, 150


def norm_of(kind: str) -> nn.Module:
    norms = {
        "layer": nn.LayerNorm(D, eps=1e-6, elementwise_affine=False),
        "affine": nn.LayerNorm(D, eps=1e-6),
        "rms": nn.RMSNorm(D, eps=1e-6, elementwise_affine=False),
        "rms affine": nn.RMSNorm(D, eps=1e-6),
    }
    return norms[kind].to(device())


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device(), dtype)


def signals(length: int, dtype: torch.dtype = torch.float32) -> Sequence[Tensor]:
    """Gate, shift and scale, as neighbours in one product."""
    return numbers(B, length, 3 * D, seed=3, dtype=dtype).chunk(3, -1)


class Holder(nn.Module):
    """Calls an operation with a norm whose parameters functional_call has replaced."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(
        self, ops: Fused, tokens: Tensor, out: Tensor, gate: Tensor | None, rest: Sequence[Tensor | None]
    ) -> Tensor:
        return ops.residual_norm(tokens, out, gate, self.norm, *rest)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("kind", "length", "gated", "shifted", "dtype"),
    [
        ("layer", 1, True, True, torch.bfloat16),
        ("layer", N, True, True, torch.float32),
        ("affine", 1, False, True, torch.float32),
        ("rms", 1, True, False, torch.float16),
        ("rms affine", N, True, False, torch.bfloat16),
        ("affine", N, False, True, torch.float32),
    ],
    ids=str,
)
def test_matches_float64(kind: str, length: int, gated: bool, shifted: bool, dtype: torch.dtype) -> None:
    norm = norm_of(kind)
    names = [f"norm.{name}" for name, _ in norm.named_parameters()]
    weights = [1 + 0.3 * numbers(D, seed=5 + i, dtype=dtype) for i, _ in enumerate(names)]
    chosen = [gated, shifted, True]
    parts = [part for part, wanted in zip(signals(length, dtype), chosen, strict=True) if wanted]
    # tokens of a sample lie apart, as in a sequence that has text in it too
    tokens = numbers(B, N + 3, D, seed=0, dtype=dtype)[:, :N]
    holder = Holder(norm)

    def run(ops: Fused, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        tokens, out, *rest = inputs
        given, values = iter(rest[: len(parts)]), rest[len(parts) :]
        gate, shift, scale = (next(given) if wanted else None for wanted in chosen)
        parameters = dict(zip(names, values, strict=True))
        made: Sequence[Tensor] = functional_call(holder, parameters, (ops, tokens, out, gate, (shift, scale)))
        return made

    assert_as_good_as_torch(run, [tokens, numbers(B, N, D, seed=1, dtype=dtype), *parts, *weights])


def test_gradients_are_those_of_the_function() -> None:
    ops, norm = FUSED.build("triton"), nn.LayerNorm(5, eps=1e-6).double().to(device())
    inputs = [numbers(1, 3, 5, seed=i, dtype=torch.float64).requires_grad_() for i in range(2)]
    for length in (1, 3):
        parts = [numbers(1, length, 5, seed=2 + i, dtype=torch.float64).requires_grad_() for i in range(3)]
        assert torch.autograd.gradcheck(
            lambda tokens, out, gate, shift, scale, *_: ops.residual_norm(tokens, out, gate, norm, shift, scale),
            (*inputs, *parts, norm.weight, norm.bias),
            fast_mode=True,
        )


def test_signals_of_different_lengths() -> None:
    gate, (_, shift, scale) = signals(N)[0], signals(1)
    inputs = [numbers(B, N, D, seed=0), numbers(B, N, D, seed=1), gate, shift, scale]
    norm = norm_of("layer")
    assert_as_good_as_torch(lambda ops, given: ops.residual_norm(*given[:3], norm, *given[3:]), inputs)


def test_reads_and_writes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, out = (fenced(numbers(B, N, D, seed=i)).requires_grad_() for i in range(2))
    gate, shift, scale = (fenced(part).requires_grad_() for part in signals(1))
    with watched(monkeypatch):
        made = FUSED.build("triton").residual_norm(tokens, out, gate, norm_of("affine"), shift, scale)
        torch.autograd.backward(made, [torch.ones_like(part) for part in made])
    for part in (*made, tokens.grad, out.grad, gate.grad, shift.grad, scale.grad):
        assert part is not None
        assert part.isfinite().all()


def test_autocast_gives_what_the_layers_around_would() -> None:
    gate, shift, scale = signals(1, torch.bfloat16)
    inputs = (
        numbers(B, N, D, seed=0),
        numbers(B, N, D, seed=1, dtype=torch.bfloat16),
        gate,
        norm_of("layer"),
        shift,
        scale,
    )
    with torch.autocast(device(), torch.bfloat16):
        tokens, seen = FUSED.build("triton").residual_norm(*inputs)
        plain_tokens, plain_seen = FUSED.build("torch").residual_norm(*inputs)
    assert (tokens.dtype, seen.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(tokens, plain_tokens, rtol=1e-6, atol=1e-6)
    # torch rounds 1 + scale too; in the interpreter the output is cut
    torch.testing.assert_close(seen, plain_seen.bfloat16(), rtol=2**-6, atol=2**-6)


def test_a_nan_stays_in_its_row() -> None:
    tokens = numbers(B, N, D, seed=0)
    tokens[1, 7, 3] = float("nan")
    gate, shift, scale = signals(1)
    _, seen = FUSED.build("triton").residual_norm(tokens, numbers(B, N, D, seed=1), gate, norm_of("rms"), shift, scale)
    assert seen[1, 7].isnan().all()
    assert seen.isnan().sum() == D


# opcheck looks at what it made itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_keep_torchs_contracts() -> None:
    from videogen.kernels.fused._residual_norm import residual_norm

    tokens, out = (numbers(1, 3, 6, seed=i).requires_grad_() for i in range(2))
    gate, shift, scale = (numbers(1, 1, 6, seed=2 + i).requires_grad_() for i in range(3))
    settings = True, 1e-6, torch.float32, torch.float32
    torch.library.opcheck(residual_norm, (tokens, out, gate, None, None, shift, scale, *settings))


def test_refusals_name_the_remedy() -> None:
    tokens, (gate, shift, scale) = numbers(B, N, D, seed=0), signals(1)
    with pytest.raises(
        ValueError, match=r"takes LayerNorm and RMSNorm of 150 channels, not Identity.*residual_norm=false"
    ):
        FUSED.build("triton").residual_norm(tokens, tokens, gate, nn.Identity(), shift, scale)


def test_no_tokens_are_no_error() -> None:
    tokens, (gate, shift, scale) = numbers(B, 0, D, seed=0).requires_grad_(), signals(1)
    new, seen = FUSED.build("triton").residual_norm(tokens, tokens, gate, norm_of("layer"), shift, scale)
    (new.sum() + seen.sum()).backward()
    assert new.shape == seen.shape == (B, 0, D)

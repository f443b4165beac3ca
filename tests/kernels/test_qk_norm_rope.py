"""QK-norm with rotation in one kernel: every norm, every kind of rotation, odd sizes, views of a packed projection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from fused_truth import assert_as_good_as_torch, device
from guarded import fenced, watched
from torch import Tensor, nn
from torch.func import functional_call

from videogen.dit.positions import POSITIONS
from videogen.dit.qk_norms import QK_NORMS
from videogen.dit.rotary import Rotary, rotary
from videogen.kernels.fused import FUSED, Fused

pytest.importorskip("triton")

from videogen.kernels.fused._launch import DEVICES

pytestmark = pytest.mark.skipif(device() not in DEVICES, reason="test_in_the_interpreter runs this one")

B, GRID, HEADS, HEAD_DIM = 2, (2, 1, 3), 3, 20
N = 6


def table(pairs: str, heads: int = 1, samples: int | None = None) -> Rotary:
    """Turns of three axes of 8, 6 and 4 channels and 2 that don't turn; random ones for each head or sample."""
    if heads == 1 and samples is None:
        made: Rotary = POSITIONS.build("rope", HEADS * HEAD_DIM, HEADS, split=(8, 6, 4), pairs=pairs).rotary(
            GRID, torch.device(device())
        )
        return made
    shape = (N, heads, HEAD_DIM // 2) if samples is None else (samples, N, heads, HEAD_DIM // 2)
    angles = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return rotary([angles], pairs, torch.device(device()))  # type: ignore[arg-type]


def projection(dtype: torch.dtype, samples: int = B) -> Tensor:
    """(B, N, 3, heads, head_dim), whose first two thirds are queries and keys."""
    packed = torch.randn(samples, N, 3 * HEADS * HEAD_DIM, generator=torch.Generator().manual_seed(0))
    return packed.to(device(), dtype).unflatten(-1, (3, HEADS, HEAD_DIM))


class Pair(nn.Module):
    """Calls the operation with norms whose parameters functional_call has replaced."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.q, self.k = (QK_NORMS.build(name, HEADS, HEAD_DIM).to(device()) for _ in range(2))
        generator = torch.Generator().manual_seed(1)
        for value in self.parameters():
            value.data = 1 + 0.3 * torch.randn(value.shape, generator=generator).to(value)

    def forward(self, ops: Fused, packed: Tensor, turns: Rotary | None) -> tuple[Tensor, Tensor]:
        q, k, _ = packed.unbind(2)
        return ops.qk_norm_rope(q, k, self.q, self.k, turns)


def operation(pair: Pair, turns: Rotary | None) -> Callable[[Fused, Sequence[Tensor]], Sequence[Tensor]]:
    """Of the projection and the norms' parameters."""
    names = [name for name, _ in pair.named_parameters()]

    def run(ops: Fused, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        packed, *values = inputs
        made: Sequence[Tensor] = functional_call(pair, dict(zip(names, values, strict=True)), (ops, packed, turns))
        return made

    return run


@pytest.mark.parametrize(
    ("norm", "turns", "dtype"),
    [
        ("rms", table("half"), torch.bfloat16),
        ("rms", table("interleaved"), torch.float32),
        ("rms", table("axis_half"), torch.float16),
        ("rms_heads", table("interleaved", samples=B), torch.bfloat16),
        ("rms_heads", None, torch.float32),
        ("layer", table("half", heads=HEADS), torch.float32),
        ("none", table("axis_half"), torch.float32),
        ("layer", table("interleaved", heads=HEADS, samples=B), torch.float32),
    ],
    ids=lambda part: f"{part.runs}{tuple(part.cos.shape)}" if isinstance(part, Rotary) else str(part),
)
def test_matches_float64(norm: str, turns: Rotary | None, dtype: torch.dtype) -> None:
    pair = Pair(norm)
    parameters = [value.detach().to(dtype) for value in pair.parameters()]
    assert_as_good_as_torch(operation(pair, turns), [projection(dtype), *parameters])


def test_reads_and_writes_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = fenced(projection(torch.float32)).requires_grad_()
    with watched(monkeypatch):
        out = Pair("rms")(FUSED.build("triton"), packed, table("axis_half"))
        torch.autograd.backward(out, [torch.ones_like(part) for part in out])
    assert all(part.isfinite().all() for part in out)
    assert packed.grad is not None
    assert packed.grad.isfinite().all()


@pytest.mark.parametrize("norm", ["rms_heads", "layer"])
def test_gradients_are_those_of_the_function(norm: str) -> None:
    pair, turns = Pair(norm), table("interleaved")
    run, ops = operation(pair, Rotary(turns.cos[:2], turns.sin[:2], turns.runs)), FUSED.build("triton")
    parameters = [value.detach().double().requires_grad_() for value in pair.parameters()]
    packed = projection(torch.float64, 1)[:, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: run(ops, inputs), (packed, *parameters), fast_mode=True)


def test_a_nan_stays_in_its_token() -> None:
    packed = projection(torch.float32)
    packed[1, 4, 0, 1, 3] = float("nan")
    q, k = Pair("rms_heads")(FUSED.build("triton"), packed, table("half"))
    assert q[1, 4].isnan().all()
    assert q.isnan().sum() == q[1, 4].numel()
    assert k.isfinite().all()


# opcheck looks at what it made itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_operators_keep_torchs_contracts() -> None:
    from videogen.kernels.fused._qk_norm_rope import qk_norm_rope

    q, k, _ = projection(torch.float32, 1)[:, :2].unbind(2)
    weights = [torch.rand(HEAD_DIM, device=device(), requires_grad=True) for _ in range(2)]
    turns = table("interleaved")
    tables = turns.cos[:2].contiguous(), turns.sin[:2].contiguous()
    torch.library.opcheck(qk_norm_rope, (q, k, *weights, None, None, *tables, [2], "rms", False, 1e-6))


def test_refusals_name_the_remedy() -> None:
    ops, pair = FUSED.build("triton"), Pair("rms")
    q, k, _ = projection(torch.float32).unbind(2)
    with pytest.raises(
        ValueError, match=r"takes an even head_dim, not 19: use fused=torch, or fused.qk_norm_rope=false"
    ):
        ops.qk_norm_rope(q[..., :19], k[..., :19], nn.RMSNorm(19), nn.RMSNorm(19), None)
    with pytest.raises(ValueError, match=r"takes LayerNorm and RMSNorm, not Tanh"):
        ops.qk_norm_rope(q, k, nn.Tanh(), nn.Tanh(), None)
    with pytest.raises(ValueError, match=r"one norm for both"):
        ops.qk_norm_rope(q, k, pair.q, nn.Identity(), None)
    turns = table("half")
    learned = Rotary(turns.cos.clone().requires_grad_(), turns.sin, turns.runs)
    with pytest.raises(ValueError, match=r"no gradient for turns that are learned"):
        ops.qk_norm_rope(q, k, pair.q, pair.k, learned)
    with pytest.raises(ValueError, match=r"takes .*float32.*, not torch.int64"):
        ops.qk_norm_rope(q.long(), k.long(), pair.q, pair.k, None)


def test_no_tokens_are_no_error() -> None:
    pair, packed = Pair("rms"), projection(torch.float32)[:, :0].requires_grad_()
    q, k = pair(FUSED.build("triton"), packed, None)
    (q.sum() + k.sum()).backward()
    assert q.shape == (B, 0, HEADS, HEAD_DIM)
    assert all((value.grad == 0).all() for value in pair.parameters())

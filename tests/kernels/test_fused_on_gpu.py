"""The fused operations and a whole block on a card, forward and backward: python -m pytest tests/kernels -m gpu.

With TRITON_INTERPRET=1 the same tests run on a CPU, which proves them and not the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

pytest.importorskip("triton")

from fused_truth import assert_as_good_as_torch
from on_gpu import DEVICE, ON_CARD, assert_near, random, skipped

from videogen.dit.blocks import BlockCondition
from videogen.dit.fusible import fuse
from videogen.dit.parts import choose
from videogen.dit.positions import POSITIONS
from videogen.dit.qk_norms import QK_NORMS
from videogen.kernels import ATTENTION
from videogen.kernels.fused import FUSED, Fused

pytestmark = [pytest.mark.gpu, skipped]

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
GRID = (3, 6, 7) if ON_CARD else (2, 2, 3)
N = GRID[0] * GRID[1] * GRID[2]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1152, 3072] if ON_CARD else [96])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_residual_norm(norm: str, width: int, dtype: str) -> None:
    kinds = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
    plain: Any = kinds[norm](width, eps=1e-6, elementwise_affine=False)

    def run(ops: Fused, given: Sequence[Tensor]) -> Sequence[Tensor]:
        gate, shift, scale = given[2].chunk(3, -1)
        return ops.residual_norm(given[0], given[1], gate, plain, shift, scale)

    for length in (1, N):
        tokens, out = (random(2, N, width, dtype=TYPES[dtype], seed=seed) for seed in (0, 1))
        assert_as_good_as_torch(run, [tokens, out, random(2, length, 3 * width, dtype=TYPES[dtype], seed=2)])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("heads", "head_dim", "norm", "pairs"),
    [
        (12, 128, "rms_heads", "interleaved"),
        (24, 128, "rms", "interleaved"),
        (24, 96, "rms", "axis_half"),
        (16, 72, "rms", "half"),
        (8, 64, "layer", "interleaved"),
    ],
)
def test_qk_norm_rope(heads: int, head_dim: int, norm: str, pairs: str, dtype: str) -> None:
    split = {"split": (32, 32, 32)} if pairs == "axis_half" else {}
    position = POSITIONS.build("rope", heads * head_dim, heads, pairs=pairs, **split)
    turns = position.rotary(GRID, torch.device(DEVICE))
    norms = nn.ModuleList(QK_NORMS.build(norm, heads, head_dim).to(DEVICE) for _ in range(2))
    names = [name for name, _ in norms.named_parameters()]
    values = [1 + 0.3 * random(*value.shape, dtype=TYPES[dtype], seed=4) for value in norms.parameters()]

    def run(ops: Fused, given: Sequence[Tensor]) -> Sequence[Tensor]:
        packed, *parameters = given
        held = Holder(norms, ops, turns)
        made: Sequence[Tensor] = functional_call(held, _named(names, parameters), (packed,))
        return made

    assert_as_good_as_torch(run, [random(2, N, 3, heads, head_dim, dtype=TYPES[dtype]), *values])


class Holder(nn.Module):
    """Calls the operation with norms whose parameters functional_call has replaced."""

    def __init__(self, norms: nn.ModuleList, ops: Fused, turns: Any) -> None:
        super().__init__()
        self.norms, self.ops, self.turns = norms, ops, turns

    def forward(self, packed: Tensor) -> Sequence[Tensor]:
        return self.ops.qk_norm_rope(packed[:, :, 0], packed[:, :, 1], *self.norms, self.turns)


def _named(names: Sequence[str], values: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"norms.{name}": value for name, value in zip(names, values, strict=True)}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_gated(activation: Any, dtype: str) -> None:
    for width in (3072, 1031) if ON_CARD else (70,):
        packed = 3 * random(2, N, 2 * width, dtype=TYPES[dtype])
        assert_as_good_as_torch(lambda ops, given: [ops.gated(given[0], activation)], [packed])


def block(name: str, attention: str, ops: str, dtype: torch.dtype) -> nn.Module:
    """A block of width 288 with random weights, the same for all kernels."""
    torch.manual_seed(0)
    chosen = choose(ATTENTION.build(attention), block=name, mlp="swiglu")
    kit = chosen.kit(chosen.modulation(288, 288, chosen.norm), bias=True)
    layer: nn.Module = chosen.block(288, 4, kit)  # type: ignore[attr-defined]
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randn_like(value) * (value[0].numel() ** -0.5 if value.ndim > 1 else 0.1))
    fuse(layer, FUSED.build(ops))
    return layer.to(DEVICE, dtype)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("full3d", "triton"),
        ("factorized", "triton"),
        ("skiparse", "triton"),
        ("sliding_tile", "block_sparse"),
        ("frame_causal", "block_sparse"),
    ],
)
def test_a_block_with_kernels_is_the_plain_one(name: str, attention: str, compiled: bool) -> None:
    if compiled and not jaxtyping.config.jaxtyping_disable:
        pytest.skip("torch compiles no checks of shapes, which tests put around each layer: set JAXTYPING_DISABLE=1")
    dtype = torch.bfloat16
    tokens, text = random(1, N, 288, seed=0), random(1, 7, 288, seed=1)
    time = random(1, 1, 288, seed=2)
    rotary = POSITIONS.build("rope", 288, 4).rotary(GRID, torch.device(DEVICE))

    def gradients(layer: nn.Module, run: Any, kind: torch.dtype) -> list[Tensor]:
        condition = BlockCondition(grid=GRID, time=time.to(kind), rotary=rotary)
        leaf = tokens.to(kind).requires_grad_()
        out = run(leaf, text.to(kind), condition)[0]
        leaves = [leaf, *layer.parameters()]
        grads = torch.autograd.grad(out, leaves, random(*out.shape, seed=3).to(kind), allow_unused=True)
        return [out.detach(), *(grad for grad in grads if grad is not None)]

    fused = block(name, attention, "triton", dtype)
    backend = "inductor" if ON_CARD else "aot_eager"
    run = torch.compile(fused, fullgraph=True, backend=backend) if compiled else fused
    plain = block(name, "sdpa", "torch", dtype)
    exact = block(name, "sdpa", "torch", dtype).double()
    found = gradients(fused, run, dtype)
    theirs, wanted = gradients(plain, plain, dtype), gradients(exact, exact, torch.float64)
    assert len(found) == len(wanted)
    for i, (got, other, true) in enumerate(zip(found, theirs, wanted, strict=True)):
        # what rounding costs a plain block, twice, and no less than that of one attention
        size = true.square().mean().sqrt()
        cost = float((other.double() - true).square().mean().sqrt() / size)
        assert_near(got, true, "out" if i == 0 else f"gradient {i}", max(2.0, 200 * cost))


def test_a_large_sum_of_gradients() -> None:
    # more tokens than programs walk over at once, so that each sums several
    tokens, norms = 4096 if ON_CARD else 24, nn.ModuleList(QK_NORMS.build("rms", 4, 64) for _ in range(2))
    names = [name for name, _ in norms.named_parameters()]

    def run(ops: Fused, given: Sequence[Tensor]) -> Sequence[Tensor]:
        made: Sequence[Tensor] = functional_call(Holder(norms, ops, None), _named(names, given[1:]), (given[0],))
        return made

    assert_as_good_as_torch(run, [random(1, tokens, 3, 4, 64), *(1 + 0.1 * random(64, seed=i) for i in (5, 6))])

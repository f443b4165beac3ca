"""What do fused operations save over torch's own, one after the other, and over what the compiler makes of them?

    python benchmarks/fused_ops.py --device cpu
    python benchmarks/fused_ops.py --device cuda --dtypes bfloat16 --backward --compare base.json

Each way meets float64 before it meets the clock. GB/s count what has to be read and written at the least, so that the
share of the measured copy tells how far from the floor a way is.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from harness import interleaved
from suite import NOT_HERE, Grid, Row, Suite, parser, run, timed
from torch import Tensor, nn

from videogen.dit.positions import POSITIONS
from videogen.dit.qk_norms import QK_NORMS
from videogen.dit.rotary import Rotary
from videogen.kernels.fused import FUSED, Fused

# largest error as a share of the largest output
ALLOWED = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


@dataclasses.dataclass(frozen=True)
class Shape(Grid):
    """Tokens of a batch, heads and head_dim, the norm of the heads and the pairs of channels that are turned."""

    batch: int
    heads: int
    head_dim: int
    qk_norm: str
    pairs: str


SHAPES = {
    "shapes": Shape("the shipped model, 33 frames, guidance", (9, 4, 4), 2, 4, 64, "rms", "half"),
    "opensora-1.2": Shape("Open-Sora 1.2, 16 frames of 16x16 tokens", (16, 16, 16), 1, 16, 72, "rms", "interleaved"),
    "osp-1.3": Shape("Open-Sora-Plan 1.3 480p 93 frames", (24, 30, 40), 1, 24, 96, "rms", "axis_half", cpu=False),
    "wan-1.3b": Shape("Wan2.1-1.3B 480p 81 frames", (21, 30, 52), 1, 12, 128, "rms_heads", "interleaved", cpu=False),
    "hunyuan": Shape("HunyuanVideo 720p 129 frames", (33, 45, 80), 1, 24, 128, "rms", "interleaved", cpu=False),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation: its inputs, and how it is called.

    `moved` counts the tensors (B, N, D) that the forward pass reads and writes, `moved_back` those of the backward.
    """

    inputs: Sequence[Tensor]
    call: Callable[[Fused, Sequence[Tensor]], Sequence[Tensor]]
    moved: float
    moved_back: float


def cases(shape: Shape, dtype: torch.dtype, device: str) -> dict[str, Case]:
    """The three operations at the width of the model."""
    torch.manual_seed(0)
    dim = shape.heads * shape.head_dim
    tokens, out = torch.randn(2, shape.batch, shape.tokens, dim, device=device).to(dtype)
    # gates below one: a branch's output that is written over again and again stays where it is
    signals = 0.1 * torch.randn(shape.batch, 1, 3 * dim, device=device).to(dtype)
    qkv = torch.randn(shape.batch, shape.tokens, 3, shape.heads, shape.head_dim, device=device).to(dtype)
    norms = [QK_NORMS.build(shape.qk_norm, shape.heads, shape.head_dim).to(device) for _ in range(2)]
    split = {"split": (32, 32, 32)} if shape.pairs == "axis_half" else {}
    position = POSITIONS.build("rope", dim, shape.heads, pairs=shape.pairs, **split)
    turns: Rotary = position.rotary(shape.grid, torch.device(device))
    norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
    packed = torch.randn(shape.batch, shape.tokens, 8 * dim // 3 * 2, device=device).to(dtype)

    def residual(ops: Fused, given: Sequence[Tensor]) -> Sequence[Tensor]:
        gate, shift, scale = given[2].chunk(3, -1)
        return ops.residual_norm(given[0], given[1], gate, norm, shift, scale)

    return {
        # views of the packed projection, each a leaf: to put their gradients together is no part of the operation
        "qk_norm_rope": Case(qkv.unbind(2)[:2], lambda ops, given: ops.qk_norm_rope(*given, *norms, turns), 4, 6),
        "residual_norm": Case([tokens, out, signals], residual, 4, 6),
        "geglu": Case([packed], lambda ops, given: [ops.gated(given[0], "gelu")], 8, 40 / 3),
        "swiglu": Case([packed], lambda ops, given: [ops.gated(given[0], "silu")], 8, 40 / 3),
    }


def ways() -> dict[str, Callable[[Case], Callable[[Sequence[Tensor]], Sequence[Tensor]]]]:
    """Torch's operators, the same compiled, and the kernels."""
    plain, fused = FUSED.build("torch"), FUSED.build("triton")

    def compiled(case: Case) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
        # after eight forms of one function the compiler would leave it as it is
        torch.compiler.reset()
        call: Callable[[Sequence[Tensor]], Sequence[Tensor]] = torch.compile(lambda given: case.call(plain, given))
        return call

    return {
        "torch": lambda case: lambda given: case.call(plain, given),
        "compiled": compiled,
        "triton": lambda case: lambda given: case.call(fused, given),
    }


WAYS = ("torch", "compiled", "triton")


def error(run: Callable[[Sequence[Tensor]], Sequence[Tensor]], case: Case) -> float:
    """Largest difference from float64 as a share of the largest output."""
    with torch.no_grad():
        # a branch's output isn't needed any more behind its residual, and may be written over
        outs = run([part.clone() for part in case.inputs])
        exact = case.call(FUSED.build("torch"), [part.double() for part in case.inputs])
        pairs = zip(outs, exact, strict=True)
        return max(float((out.double() - true).abs().max() / true.abs().max()) for out, true in pairs)


def passes(run: Callable[[Sequence[Tensor]], Sequence[Tensor]], case: Case, backward: bool) -> Callable[[], object]:
    if not backward:

        def forward() -> object:
            with torch.no_grad():
                return run(case.inputs)

        return forward
    leaves = [part.detach().requires_grad_() for part in case.inputs]
    upstream = [torch.randn_like(part) for part in run(leaves)]
    return lambda: torch.autograd.grad(run(leaves), leaves, upstream)


def measure(name: str, dtype_name: str, options: argparse.Namespace, tops: Mapping[str, float]) -> list[Row]:
    """The rows of one shape and dtype: every way of every operation is checked, then those that passed are timed."""
    shape, rows = SHAPES[name], []
    for operation, case in cases(shape, getattr(torch, dtype_name), options.device).items():
        own: dict[str, Row] = {}
        runs = {}
        for way, make in ways().items():
            if way not in options.ways:
                continue
            row = own[way] = {"shape": name, "dtype": dtype_name, "operation": operation, "way": way}
            if way == "triton" and options.device == "cpu":
                row["status"] = NOT_HERE
                continue
            call = make(case)
            row["error"] = error(call, case)
            row["status"] = "ok" if row["error"] <= ALLOWED[dtype_name] else "wrong, not timed"
            if row["status"] == "ok":
                runs[way] = passes(call, case, options.backward)
        times = interleaved(runs, device=options.device, rounds=options.rounds, seconds=options.seconds)
        moved = case.moved + (case.moved_back if options.backward else 0)
        moved *= shape.batch * shape.tokens * shape.heads * shape.head_dim * getattr(torch, dtype_name).itemsize
        for way, found in times.items():
            rate = 1e-6 * moved / found.median
            own[way] |= timed(found) | {"GB/s": rate, "% of copy": 100 * rate / tops["copy_gbs"]}
            own[way]["speed-up"] = times["torch"].median / found.median if "torch" in times else None
        rows += own.values()
    return rows


NOTES = (
    "torch: its operators one after the other; compiled: torch.compile of them; triton: the kernels of fused=triton",
    "error is the largest difference from float64 by the largest output, checked before any timing",
    "GB/s counts tensors of all tokens that a pass has to read or write: 4 for qk_norm_rope and residual_norm, 8 of a "
    "gated MLP of ratio 8 / 3; the backward pass has 6 and 13.3 more",
    "ms, p20, p80: samples taken in turns, on a CPU of its process's CPU time; speed-up is a ratio of medians",
    "on a CPU the rows of triton are interpreter checks only, which tests/kernels makes; they are never timed",
)


def bar(row: Row) -> tuple[str, str, float] | None:
    label = f"{row['operation']}\n{row['shape']} {row['dtype']}"
    return (label, row["way"], row["speed-up"]) if row.get("speed-up") else None


def main() -> None:
    question = (__doc__ or "").splitlines()[0]
    options = parser(question, SHAPES, ALLOWED)
    options.add_argument("--backward", action="store_true", help="forward and backward")
    options.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options.set_defaults(rounds=9 if torch.cuda.is_available() else 5)
    keys, columns = ("shape", "dtype", "operation", "way"), ("GB/s", "% of copy", "speed-up")
    suite = Suite(question, "fused_ops", SHAPES, measure, keys, columns, NOTES, bar, "speed / torch")
    run(suite, options.parse_args())


if __name__ == "__main__":
    main()

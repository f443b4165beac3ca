"""What do fused operations save over torch's own, one after the other, and over what the compiler makes of them?

    python benchmarks/fused_ops.py --device cpu
    python benchmarks/fused_ops.py --device cuda --dtypes bfloat16 --backward --compare base.json

Each way meets float64 before it meets the clock. GB/s count what has to be read and written at the least, so that the
share of the measured copy tells how far from the floor a way is.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import RESULTS, ceilings, compare, facts, interleaved, markdown_table, plot_bars, write
from torch import Tensor, nn

from videogen.dit.positions import POSITIONS
from videogen.dit.qk_norms import QK_NORMS
from videogen.dit.rotary import Rotary
from videogen.kernels._triton import INTERPRETED
from videogen.kernels.fused import FUSED, Fused

# largest error as a share of the largest output
ALLOWED = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The tokens of a real model: batch, a grid of tokens, heads and head_dim, the norm of its heads and its pairs."""

    model: str
    batch: int
    grid: tuple[int, int, int]
    heads: int
    head_dim: int
    qk_norm: str
    pairs: str
    cpu: bool = True

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


SHAPES = {
    "shapes": Shape("the shipped model, 33 frames, guidance", 2, (9, 4, 4), 4, 64, "rms", "half"),
    "opensora-1.2": Shape("Open-Sora 1.2, 16 frames of 16x16 tokens", 1, (16, 16, 16), 16, 72, "rms", "interleaved"),
    "osp-1.3": Shape("Open-Sora-Plan 1.3 480p 93 frames", 1, (24, 30, 40), 24, 96, "rms", "axis_half", cpu=False),
    "wan-1.3b": Shape("Wan2.1-1.3B 480p 81 frames", 1, (21, 30, 52), 12, 128, "rms_heads", "interleaved", cpu=False),
    "hunyuan": Shape("HunyuanVideo 720p 129 frames", 1, (33, 45, 80), 24, 128, "rms", "interleaved", cpu=False),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation: its inputs, and how it is called; `moved` counts the tensors (B, N, D) that a pass moves."""

    inputs: Sequence[Tensor]
    call: Callable[[Fused, Sequence[Tensor]], Sequence[Tensor]]
    moved: float


def cases(shape: Shape, dtype: torch.dtype, device: str) -> dict[str, Case]:
    """The three operations at the width of the model."""
    torch.manual_seed(0)
    dim = shape.heads * shape.head_dim
    tokens, out = torch.randn(2, shape.batch, shape.tokens, dim, device=device).to(dtype)
    signals = 0.5 * torch.randn(shape.batch, 1, 3 * dim, device=device).to(dtype)
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
        "qk_norm_rope": Case(
            [qkv], lambda ops, given: ops.qk_norm_rope(given[0][:, :, 0], given[0][:, :, 1], *norms, turns), 4
        ),
        "residual_norm": Case([tokens, out, signals], residual, 4),
        "geglu": Case([packed], lambda ops, given: [ops.gated(given[0], "gelu")], 8),
        "swiglu": Case([packed], lambda ops, given: [ops.gated(given[0], "silu")], 8),
    }


def ways(device: str) -> dict[str, Callable[[Case], Callable[[Sequence[Tensor]], Sequence[Tensor]]]]:
    """Torch's operators, the same compiled, and the kernels."""
    plain, fused = FUSED.build("torch"), FUSED.build("triton")

    def compiled(case: Case) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
        call: Callable[[Sequence[Tensor]], Sequence[Tensor]] = torch.compile(lambda given: case.call(plain, given))
        return call

    return {
        "torch": lambda case: lambda given: case.call(plain, given),
        "compiled": compiled,
        "triton": lambda case: lambda given: case.call(fused, given),
    }


def error(run: Callable[[Sequence[Tensor]], Sequence[Tensor]], case: Case) -> float:
    """Largest difference from float64 as a share of the largest output."""
    with torch.no_grad():
        outs = run(case.inputs)
        exact = case.call(FUSED.build("torch"), [part.double() for part in case.inputs])
        pairs = zip(outs, exact, strict=True)
        return max(float((out.double() - true).abs().max() / true.abs().max()) for out, true in pairs)


def timed(run: Callable[[Sequence[Tensor]], Sequence[Tensor]], case: Case, backward: bool) -> Callable[[], object]:
    if not backward:

        def forward() -> object:
            with torch.no_grad():
                return run(case.inputs)

        return forward
    leaves = [part.detach().requires_grad_() for part in case.inputs]
    upstream = [torch.randn_like(part) for part in run(leaves)]
    return lambda: torch.autograd.grad(run(leaves), leaves, upstream)


def measure(name: str, dtype_name: str, options: argparse.Namespace, copy: float) -> list[dict[str, Any]]:
    """The rows of one shape and dtype: every way of every operation is checked, then those that passed are timed."""
    shape, rows = SHAPES[name], []
    for operation, case in cases(shape, getattr(torch, dtype_name), options.device).items():
        runs = {}
        for label, make in ways(options.device).items():
            row: dict[str, Any] = {"shape": name, "dtype": dtype_name, "operation": operation, "way": label}
            rows.append(row)
            if label == "triton" and options.device == "cpu":
                row["status"] = "interpreter checks only, see tests/kernels" if INTERPRETED else "needs a GPU"
                continue
            run = make(case)
            row["error"] = error(run, case)
            row["status"] = "ok" if row["error"] <= ALLOWED[dtype_name] else "wrong, not timed"
            if row["status"] == "ok":
                runs[label] = timed(run, case, options.backward)
        times = interleaved(runs, device=options.device, rounds=options.rounds, seconds=options.seconds)
        moved = case.moved * shape.batch * shape.tokens * shape.heads * shape.head_dim
        moved *= getattr(torch, dtype_name).itemsize * (3 if options.backward else 1)
        for row in rows:
            found = times.get(row["way"]) if row["operation"] == operation else None
            if found is not None:
                rate = 1e-6 * moved / found.median
                row |= {"ms": found.median, "p20": found.p20, "p80": found.p80, "wall ms": found.wall}
                row |= {"GB/s": rate, "% of copy": 100 * rate / copy}
                row["speed-up"] = times["torch"].median / found.median if "torch" in times else None
    return rows


NOTES = (
    "torch: its operators one after the other; compiled: torch.compile of them; triton: the kernels of fused=triton",
    "error is the largest difference from float64 by the largest output, checked before any timing",
    "GB/s counts tensors of all tokens that a pass has to read or write: 4 for qk_norm_rope and residual_norm, 8 of a "
    "gated MLP of ratio 8 / 3; three times that with the backward pass",
    "ms, p20, p80: samples taken in turns, on a CPU of its process's CPU time; speed-up is a ratio of medians",
    "on a CPU the rows of triton are interpreter checks only, which tests/kernels makes; they are never timed",
)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    names = options.shapes or [name for name, shape in SHAPES.items() if options.device == "cuda" or shape.cpu]
    report: dict[str, Any] = {"facts": facts(options.device), "rows": [], "backward": options.backward}
    report["ceilings"] = {dtype: ceilings(options.device, getattr(torch, dtype)) for dtype in options.dtypes}
    columns = ["shape", "dtype", "operation", "way", "error", "ms", "p20", "p80", "wall ms"]
    columns += ["GB/s", "% of copy", "speed-up", *(["vs base"] if options.compare else []), "status"]
    stem = f"fused_ops_{options.device}{'_backward' if options.backward else ''}"
    for dtype in options.dtypes:
        for name in names:
            report["rows"] += measure(name, dtype, options, report["ceilings"][dtype]["copy_gbs"])
            compare(report["rows"], options.compare, ("shape", "dtype", "operation", "way"))
            print(markdown_table([row for row in report["rows"] if row["shape"] == name], columns), flush=True)
    known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
    copies = ", ".join(f"{dtype} {top['copy_gbs']:.3g} GB/s" for dtype, top in report["ceilings"].items())
    text = [f"# {(__doc__ or '').splitlines()[0]}", markdown_table(report["rows"], columns)]
    text += ["\n".join(f"- {note}" for note in NOTES), f"Machine: {known}", f"Measured copy: {copies}"]
    write(stem, report, "\n\n".join(text))
    bars: dict[str, dict[str, float]] = {}
    for row in report["rows"]:
        if row.get("speed-up"):
            bars.setdefault(f"{row['operation']}\n{row['shape']} {row['dtype']}", {})[row["way"]] = row["speed-up"]
    plot_bars(RESULTS / f"{stem}.png", bars, title=f"small operations on {options.device}", ylabel="speed / torch")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--dtypes", nargs="+", choices=ALLOWED, default=["float32", "bfloat16"])
    parser.add_argument("--backward", action="store_true", help="forward and backward")
    parser.add_argument("--compare", type=Path, metavar="BASE.JSON", help="an older report: how much faster it is now")
    parser.add_argument("--rounds", type=int, default=9, help="samples of each way")
    parser.add_argument("--seconds", type=float, default=0.02, help="least CPU time of one sample")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with one, CPU time is a fair clock")
    return parser.parse_args()


if __name__ == "__main__":
    main()

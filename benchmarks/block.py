"""What does a whole block of a DiT cost, by the pattern of its attention, its kernels and its small operations?

    python benchmarks/block.py --device cpu
    python benchmarks/block.py --device cuda --dtypes bfloat16 --backward

Blocks of the same width on the same tokens. Every way of a block is compared with its plain one before it is timed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import RESULTS, ceilings, compare, facts, interleaved, markdown_table, plot_bars, write
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition
from videogen.dit.fusible import fuse
from videogen.dit.parts import choose
from videogen.dit.positions import POSITIONS
from videogen.kernels import ATTENTION
from videogen.kernels.fused import FUSED

# largest difference from the plain block as a share of its largest output: other orders of sums, other roundings
ALLOWED = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The tokens of a real model: a grid, width and heads, and words of text."""

    model: str
    grid: tuple[int, int, int]
    dim: int
    heads: int
    words: int
    cpu: bool = True

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


SHAPES = {
    "shapes": Shape("the shipped model, 33 frames", (9, 4, 4), 256, 4, 12),
    "latte-256": Shape("Latte-XL/2 256 px, 16 frames", (16, 16, 16), 1152, 16, 120),
    "osp-1.3": Shape("Open-Sora-Plan 1.3 480p 93 frames", (24, 30, 40), 2304, 24, 512, cpu=False),
    "wan-1.3b": Shape("Wan2.1-1.3B 480p 81 frames", (21, 30, 52), 1536, 12, 512, cpu=False),
}
BLOCKS = ("full3d", "factorized", "spatial", "temporal", "skiparse", "sliding_tile", "frame_causal")
#: attention kernel, small operations, whether it is compiled; what needs a card is left out on a CPU
WAYS = {
    "plain": ("sdpa", "torch", False),
    "compiled": ("sdpa", "torch", True),
    "triton": ("triton", "torch", False),
    "triton, fused": ("triton", "triton", False),
    "sparse, fused": ("block_sparse", "triton", False),
    "sparse, fused, compiled": ("block_sparse", "triton", True),
}


def build(block: str, way: str, shape: Shape, dtype: torch.dtype, device: str) -> Callable[..., tuple[Tensor, Any]]:
    """A block with random weights, the same for all ways."""
    attention, ops, compiled = WAYS[way]
    torch.manual_seed(0)
    chosen = choose(ATTENTION.build(attention), block=block, mlp="swiglu")
    kit = chosen.kit(chosen.modulation(shape.dim, shape.dim, chosen.norm), bias=True)
    layer: nn.Module = chosen.block(shape.dim, shape.heads, kit).to(device, dtype)  # type: ignore[attr-defined]
    for value in layer.parameters():
        value.data = torch.randn_like(value) * max(1, value[0].numel()) ** -0.5 if value.ndim > 1 else value.data
    fuse(layer, FUSED.build(ops))
    return torch.compile(layer) if compiled else layer


def inputs(shape: Shape, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, BlockCondition]:
    torch.manual_seed(1)
    tokens, time, text = (
        torch.randn(1, length, shape.dim, device=device).to(dtype) for length in (shape.tokens, 1, shape.words)
    )
    rotary = POSITIONS.build("rope", shape.dim, shape.heads).rotary(shape.grid, torch.device(device))
    return tokens, text, BlockCondition(grid=shape.grid, time=time, rotary=rotary)


def call(layer: Callable[..., tuple[Tensor, Any]], given: tuple[Any, ...], backward: bool) -> Callable[[], Tensor]:
    tokens, text, condition = given

    def forward() -> Tensor:
        with torch.no_grad():
            return layer(tokens, text, condition)[0]

    if not backward:
        return forward
    leaf, upstream = tokens.detach().requires_grad_(), torch.randn_like(tokens)
    return lambda: torch.autograd.grad(layer(leaf, text, condition)[0], leaf, upstream)[0]


def measure(name: str, dtype_name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a block and way, the ways of one block timed in turns."""
    shape, dtype, rows = SHAPES[name], getattr(torch, dtype_name), []
    given = inputs(shape, dtype, options.device)
    for block in options.blocks:
        runs: dict[str, Callable[[], Tensor]] = {}
        expected = None
        for way, (attention, _, _) in WAYS.items():
            row: dict[str, Any] = {"shape": name, "dtype": dtype_name, "block": block, "way": way}
            rows.append(row)
            if attention != "sdpa" and options.device == "cpu":
                row["status"] = "interpreter checks only, see tests/kernels"
                continue
            layer = build(block, way, shape, dtype, options.device)
            out = call(layer, given, False)().double()
            expected = out if expected is None else expected
            row["error"] = float((out - expected).abs().max() / expected.abs().max())
            row["status"] = "ok" if row["error"] <= ALLOWED[dtype_name] else "wrong, not timed"
            if row["status"] == "ok":
                runs[way] = call(layer, given, options.backward)
        times = interleaved(runs, device=options.device, rounds=options.rounds, seconds=options.seconds)
        for row in rows:
            if row["block"] == block and (found := times.get(row["way"])) is not None:
                row |= {"ms": found.median, "p20": found.p20, "p80": found.p80, "wall ms": found.wall}
                row["speed-up"] = times["plain"].median / found.median
    return rows


NOTES = (
    "plain: torch's attention and operators; compiled: torch.compile of it; triton: attention=triton; sparse: "
    "attention=block_sparse; fused: fused=triton",
    "every block has attention to text, adaLN-Zero, RMSNorm of queries and keys, RoPE and a SwiGLU; factorized has two "
    "attentions",
    "error is the largest difference from the plain block by its largest output, checked before any timing",
    "ms, p20, p80: samples taken in turns, on a CPU of its process's CPU time; speed-up is over the plain block",
    "on a CPU the rows of Triton kernels are interpreter checks only, which tests/kernels makes; they are never timed",
)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    names = options.shapes or [name for name, shape in SHAPES.items() if options.device == "cuda" or shape.cpu]
    report: dict[str, Any] = {"facts": facts(options.device), "rows": [], "backward": options.backward}
    report["ceilings"] = {dtype: ceilings(options.device, getattr(torch, dtype)) for dtype in options.dtypes}
    columns = ["shape", "dtype", "block", "way", "error", "ms", "p20", "p80", "wall ms", "speed-up"]
    columns += [*(["vs base"] if options.compare else []), "status"]
    stem = f"block_{options.device}{'_backward' if options.backward else ''}"
    for dtype in options.dtypes:
        for name in names:
            report["rows"] += measure(name, dtype, options)
            compare(report["rows"], options.compare, ("shape", "dtype", "block", "way"))
            print(markdown_table([row for row in report["rows"] if row["shape"] == name], columns), flush=True)
    known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
    text = [f"# {(__doc__ or '').splitlines()[0]}", markdown_table(report["rows"], columns)]
    text += ["\n".join(f"- {note}" for note in NOTES), f"Machine: {known}"]
    write(stem, report, "\n\n".join(text))
    bars: dict[str, dict[str, float]] = {}
    for row in report["rows"]:
        if row.get("ms"):
            bars.setdefault(f"{row['block']}\n{row['shape']} {row['dtype']}", {})[row["way"]] = row["ms"]
    plot_bars(RESULTS / f"{stem}.png", bars, title=f"one block on {options.device}", ylabel="ms")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--blocks", nargs="+", choices=BLOCKS, default=list(BLOCKS))
    parser.add_argument("--dtypes", nargs="+", choices=ALLOWED, default=["float32", "bfloat16"])
    parser.add_argument("--backward", action="store_true", help="forward and backward")
    parser.add_argument("--rounds", type=int, default=9, help="samples of each way")
    parser.add_argument("--seconds", type=float, default=0.02, help="least CPU time of one sample")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with one, CPU time is a fair clock")
    parser.add_argument("--compare", type=Path, metavar="BASE.JSON", help="an older report: how much faster it is now")
    return parser.parse_args()


if __name__ == "__main__":
    main()

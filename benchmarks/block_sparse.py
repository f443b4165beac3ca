"""Does attention to a list of blocks take as long as the list is?

    python benchmarks/block_sparse.py --device cpu
    python benchmarks/block_sparse.py --device cuda --dtypes bfloat16

Sparse patterns of video models on their grids of tokens: dense attention, dense attention under the pattern's mask,
FlexAttention and the block-sparse kernel. Each is compared with float64 on some rows before it is timed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import RESULTS, ceilings, compare, facts, interleaved, markdown_table, plot_bars, write
from torch import Tensor

from videogen.kernels import ATTENTION
from videogen.kernels._triton import INTERPRETED
from videogen.kernels.blocks import BlockList, builders

ALLOWED = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
CHECKED_QUERIES = 64
#: a mask of more pairs than this isn't made
MOST_PAIRS = 2**31


@dataclasses.dataclass(frozen=True)
class Shape:
    """The self-attention of a real model: a grid of tokens, heads and head_dim."""

    model: str
    grid: tuple[int, int, int]
    heads: int
    head_dim: int
    cpu: bool = True

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


SHAPES = {
    "small": Shape("a model for a CPU", (8, 16, 16), 2, 64),
    "wan-1.3b": Shape("Wan2.1-1.3B 480p 81 frames", (21, 30, 52), 12, 128, cpu=False),
    "osp-1.3": Shape("Open-Sora-Plan 1.3 480p 93 frames", (24, 30, 40), 24, 96, cpu=False),
    "hunyuan": Shape("HunyuanVideo 720p 129 frames", (33, 45, 80), 24, 128, cpu=False),
}


def patterns(shape: Shape, device: torch.device) -> dict[str, BlockList]:
    """From sparse to dense."""
    tile = (2, 8, 8) if shape.grid[1] % 8 == 0 else (3, 6, 8)
    length = shape.tokens
    return {
        "skip 8": builders.skip(length, 8, device=device),
        "skip 4": builders.skip(length, 4, device=device),
        "tiles 1,1,1": builders.sliding_tile(shape.grid, tile, (1, 1, 1), device=device),
        "tiles 2,2,2": builders.sliding_tile(shape.grid, tile, (2, 2, 2), device=device),
        "radial": builders.radial(shape.grid, device=device),
        "frame causal": builders.frame_causal(shape.grid, device=device),
    }


def reference(q: Tensor, k: Tensor, v: Tensor, blocks: BlockList, rows: Tensor) -> Tensor:
    """Some queries in float64, from the list itself, with no mask of all pairs."""
    size, out = blocks.size, []
    owner = torch.full((blocks.length,), -1, device=q.device)
    held = blocks.tokens[0] >= 0
    numbers = torch.arange(len(blocks.tokens[0]), device=q.device)[:, None].expand(-1, size)
    owner[blocks.tokens[0][held].long()] = numbers[held]
    for row in rows.tolist():
        block = int(owner[row])
        listed = blocks.keys[int(blocks.first[0, 0, block]) : int(blocks.first[0, 0, block + 1])].long()
        seen = blocks.tokens[0][listed]
        seen = seen[seen >= 0].long()
        scores = q[:, :, row : row + 1].double() @ k[:, :, seen].double().transpose(-1, -2) / q.shape[-1] ** 0.5
        out.append(scores.softmax(-1) @ v[:, :, seen].double())
    return torch.cat(out, 2)


def measure(name: str, dtype_name: str, options: argparse.Namespace, peak: float) -> list[dict[str, Any]]:
    """The rows of one shape and dtype: dense attention first, then each pattern in every way there is."""
    shape, device = SHAPES[name], torch.device(options.device)
    torch.manual_seed(0)
    packed = torch.randn(1, shape.tokens, 3, shape.heads, shape.head_dim, device=device)
    q, k, v = packed.to(getattr(torch, dtype_name)).permute(2, 0, 3, 1, 4)
    rows: list[dict[str, Any]] = []
    runs: dict[str, Callable[[], Tensor]] = {"dense sdpa": lambda: ATTENTION.build("sdpa")(q, k, v)}
    told: dict[str, dict[str, Any]] = {
        "dense sdpa": {"pattern": "dense", "way": "sdpa", "density": 1.0, "status": "ok"}
    }
    picked = torch.linspace(0, shape.tokens - 1, CHECKED_QUERIES, device=device).long()
    with torch.no_grad():
        for pattern, blocks in patterns(shape, device).items():
            expected = reference(q, k, v, blocks, picked)
            for way, run in ways(q, k, v, blocks, options.device).items():
                label = f"{pattern} {way}"
                told[label] = {"pattern": pattern, "way": way, "density": blocks.density}
                if isinstance(run, str):
                    told[label]["status"] = run
                    continue
                off = float((run()[:, :, picked].double() - expected).abs().max() / expected.abs().max())
                told[label] |= {"error": off, "status": "ok" if off <= ALLOWED[dtype_name] else "wrong, not timed"}
                if told[label]["status"] == "ok":
                    runs[label] = run
        times = interleaved(runs, device=options.device, rounds=options.rounds, seconds=options.seconds)
    dense = times["dense sdpa"].median
    flops = 4.0 * shape.heads * shape.tokens**2 * shape.head_dim
    for label, row in told.items():
        rows.append({"shape": name, "dtype": dtype_name, **row})
        if (found := times.get(label)) is not None:
            share = row["density"] if row["way"] == "block_sparse" else 1.0
            rows[-1] |= {"ms": found.median, "p20": found.p20, "p80": found.p80, "wall ms": found.wall}
            rows[-1] |= {"GFLOP/s": 1e-6 * flops * share / found.median, "dense GFLOP/s": 1e-6 * flops / found.median}
            rows[-1] |= {"% of gemm": 1e-4 * flops * share / found.median / peak, "of dense": found.median / dense}
    return rows


def ways(q: Tensor, k: Tensor, v: Tensor, blocks: BlockList, device: str) -> dict[str, Callable[[], Tensor] | str]:
    """How a pattern can be had: by a mask of all pairs, or by its blocks; or why it can't be had here."""
    found: dict[str, Callable[[], Tensor] | str] = {}
    if blocks.length**2 <= MOST_PAIRS:
        mask = blocks.mask()
        found["sdpa with a mask"] = lambda: ATTENTION.build("sdpa")(q, k, v, mask=mask)
        found["flex"] = (lambda: ATTENTION.build("flex")(q, k, v, mask=mask)) if device == "cuda" else "needs a GPU"
    else:
        found["sdpa with a mask"] = found["flex"] = f"a mask of {blocks.length} ** 2 pairs isn't made"
    kernel = ATTENTION.build("block_sparse")
    if device == "cuda":
        found["block_sparse"] = lambda: kernel(q, k, v, blocks=blocks)  # type: ignore[call-arg]
    else:
        found["block_sparse"] = "interpreter checks only, see tests/kernels" if INTERPRETED else "needs a GPU"
    return found


NOTES = (
    "density is the share of pairs of blocks that a list holds; blocks have 128 tokens at most",
    "GFLOP/s are those that are computed, 4 * heads * N^2 * head_dim times the density for block_sparse; dense GFLOP/s "
    "count all pairs, as the same time would be worth to a dense kernel",
    "of dense: time as a share of dense attention by sdpa; of a kernel whose time goes by its list it is near density",
    "error is the largest difference from float64 over some queries by the largest output, checked before any timing",
    "ms, p20, p80: samples taken in turns, on a CPU of its process's CPU time",
    "on a CPU the rows of block_sparse are interpreter checks only, which tests/kernels makes; they are never timed",
)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    names = options.shapes or [name for name, shape in SHAPES.items() if options.device == "cuda" or shape.cpu]
    report: dict[str, Any] = {"facts": facts(options.device), "rows": []}
    report["ceilings"] = {dtype: ceilings(options.device, getattr(torch, dtype)) for dtype in options.dtypes}
    columns = ["shape", "dtype", "pattern", "way", "density", "error", "ms", "p20", "p80", "wall ms", "GFLOP/s"]
    columns += ["dense GFLOP/s", "% of gemm", "of dense", *(["vs base"] if options.compare else []), "status"]
    stem = f"block_sparse_{options.device}"
    for dtype in options.dtypes:
        for name in names:
            report["rows"] += measure(name, dtype, options, report["ceilings"][dtype]["gemm_gflops"])
            compare(report["rows"], options.compare, ("shape", "dtype", "pattern", "way"))
            print(markdown_table([row for row in report["rows"] if row["shape"] == name], columns), flush=True)
    known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
    text = [f"# {(__doc__ or '').splitlines()[0]}", markdown_table(report["rows"], columns)]
    text += ["\n".join(f"- {note}" for note in NOTES), f"Machine: {known}"]
    write(stem, report, "\n\n".join(text))
    bars: dict[str, dict[str, float]] = {}
    for row in report["rows"]:
        if row.get("of dense"):
            label = f"{row['pattern']} ({row['density']:.2f})\n{row['shape']} {row['dtype']}"
            bars.setdefault(label, {})[row["way"]] = row["of dense"]
    title = f"sparse attention on {options.device}: time as a share of dense attention"
    plot_bars(RESULTS / f"{stem}.png", bars, title=title, ylabel="time / dense sdpa")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--dtypes", nargs="+", choices=ALLOWED, default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=9, help="samples of each way")
    parser.add_argument("--seconds", type=float, default=0.02, help="least CPU time of one sample")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with one, CPU time is a fair clock")
    parser.add_argument("--compare", type=Path, metavar="BASE.JSON", help="an older report: how much faster it is now")
    return parser.parse_args()


if __name__ == "__main__":
    main()

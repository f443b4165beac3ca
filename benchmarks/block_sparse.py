"""Does attention to a list of blocks take as long as the list is?

    python benchmarks/block_sparse.py --device cpu
    python benchmarks/block_sparse.py --device cuda --dtypes bfloat16

Sparse patterns of video models on their grids of tokens: dense attention, dense attention under the pattern's mask,
FlexAttention and the block-sparse kernel. Each is compared with float64 on some rows before it is timed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping

import torch
from harness import interleaved
from suite import NOT_HERE, Grid, Row, Suite, parser, run, timed
from torch import Tensor

from videogen.kernels import ATTENTION
from videogen.kernels.blocks import BlockList, builders, from_pairs

ALLOWED = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}
CHECKED_QUERIES = 64
#: a mask of more pairs than this isn't made
MOST_PAIRS = 2**31


@dataclasses.dataclass(frozen=True)
class Shape(Grid):
    """The self-attention of a real model: tokens, heads and head_dim."""

    heads: int
    head_dim: int


SHAPES = {
    "small": Shape("a model for a CPU", (8, 16, 16), 2, 64),
    "wan-1.3b": Shape("Wan2.1-1.3B 480p 81 frames", (21, 30, 52), 12, 128, cpu=False),
    "osp-1.3": Shape("Open-Sora-Plan 1.3 480p 93 frames", (24, 30, 40), 24, 96, cpu=False),
    "hunyuan": Shape("HunyuanVideo 720p 129 frames", (33, 45, 80), 24, 128, cpu=False),
}


PATTERNS = ("skip 8", "skip 4", "tiles 1,1,1", "tiles 2,2,2", "radial", "frame causal")


def patterns(shape: Shape, device: torch.device) -> dict[str, BlockList]:
    """From sparse to dense."""
    # tiles of up to 128 tokens that fill a grid: one of more would be two blocks, each half empty
    tile = (2, 8, 8) if shape.grid[1] % 8 == 0 else (3, 10, 4) if shape.grid[1] % 10 == 0 else (3, 5, 8)
    length = shape.tokens
    return {
        "skip 8": builders.skip(length, 8, device=device),
        "skip 4": builders.skip(length, 4, device=device),
        "tiles 1,1,1": builders.sliding_tile(shape.grid, tile, (1, 1, 1), device=device),
        "tiles 2,2,2": builders.sliding_tile(shape.grid, tile, (2, 2, 2), device=device),
        "radial": builders.radial(shape.grid, device=device),
        "frame causal": builders.frame_causal(shape.grid, device=device),
    }


def of_density(length: int, density: float, device: torch.device) -> BlockList:
    """Blocks of neighbours, each of which sees itself and others drawn at random."""
    blocks = -(-length // builders.SIZE)
    source = torch.Generator().manual_seed(0)
    seen = torch.rand(blocks, blocks, generator=source) < (density * blocks - 1) / max(1, blocks - 1)
    seen |= torch.eye(blocks, dtype=torch.bool)
    tokens = torch.arange(blocks * builders.SIZE).view(1, blocks, builders.SIZE)
    tokens = tokens.where(tokens < length, -1)
    return from_pairs(tokens.to(device), seen[None, None].to(device), length)


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


def measure(name: str, dtype_name: str, options: argparse.Namespace, tops: Mapping[str, float]) -> list[Row]:
    """The rows of one shape and dtype: dense attention first, then each pattern in every way there is."""
    shape, device = SHAPES[name], torch.device(options.device)
    torch.manual_seed(0)
    packed = torch.randn(1, shape.tokens, 3, shape.heads, shape.head_dim, device=device)
    q, k, v = packed.to(getattr(torch, dtype_name)).permute(2, 0, 3, 1, 4)
    rows: list[Row] = []
    runs: dict[str, Callable[[], Tensor]] = {"dense sdpa": lambda: ATTENTION.build("sdpa")(q, k, v)}
    told: dict[str, Row] = {"dense sdpa": {"pattern": "dense", "way": "sdpa", "density": 1.0, "status": "ok"}}
    picked = torch.linspace(0, shape.tokens - 1, CHECKED_QUERIES, device=device).long()
    with torch.no_grad():
        for pattern, blocks in lists(shape, options, device).items():
            expected = reference(q, k, v, blocks, picked)
            for way, call in ways(q, k, v, blocks, options).items():
                label = f"{pattern} {way}"
                told[label] = {"pattern": pattern, "way": way, "density": blocks.density}
                if isinstance(call, str):
                    told[label]["status"] = call
                    continue
                off = float((call()[:, :, picked].double() - expected).abs().max() / expected.abs().max())
                told[label] |= {"error": off, "status": "ok" if off <= ALLOWED[dtype_name] else "wrong, not timed"}
                if told[label]["status"] == "ok":
                    runs[label] = call
        times = interleaved(runs, device=options.device, rounds=options.rounds, seconds=options.seconds)
    dense = times["dense sdpa"].median
    flops = 4.0 * shape.heads * shape.tokens**2 * shape.head_dim
    for label, row in told.items():
        rows.append({"shape": name, "dtype": dtype_name, **row})
        if (found := times.get(label)) is not None:
            share = row["density"] if row["way"] == "block_sparse" else 1.0
            rows[-1] |= timed(found)
            rows[-1] |= {"GFLOP/s": 1e-6 * flops * share / found.median, "dense GFLOP/s": 1e-6 * flops / found.median}
            rows[-1] |= {
                "% of gemm": 1e-4 * flops * share / found.median / tops["gemm_gflops"],
                "of dense": found.median / dense,
            }
    return rows


def lists(shape: Shape, options: argparse.Namespace, device: torch.device) -> dict[str, BlockList]:
    """The patterns and the densities that were asked for."""
    found = {name: made for name, made in patterns(shape, device).items() if name in options.patterns}
    return found | {f"random {share:g}": of_density(shape.tokens, share, device) for share in options.densities}


WAYS = ("sdpa with a mask", "flex", "block_sparse")


def ways(
    q: Tensor, k: Tensor, v: Tensor, blocks: BlockList, options: argparse.Namespace
) -> dict[str, Callable[[], Tensor] | str]:
    """How a pattern can be had: by a mask of all pairs, or by its blocks; or why it can't be had here."""
    found: dict[str, Callable[[], Tensor] | str] = {}
    masked = [way for way in options.ways if way != "block_sparse"]
    if masked and blocks.length**2 <= MOST_PAIRS:
        mask = blocks.mask()
        found["sdpa with a mask"] = lambda: ATTENTION.build("sdpa")(q, k, v, mask=mask)
        on_card = options.device == "cuda"
        found["flex"] = (lambda: ATTENTION.build("flex")(q, k, v, mask=mask)) if on_card else "needs a GPU"
    else:
        found |= dict.fromkeys(masked, f"a mask of {blocks.length} ** 2 pairs isn't made")
    kernel = ATTENTION.build("block_sparse")
    if options.device == "cuda":
        found["block_sparse"] = lambda: kernel(q, k, v, blocks=blocks)  # type: ignore[call-arg]
    else:
        found["block_sparse"] = NOT_HERE
    return {way: found[way] for way in options.ways}


NOTES = (
    "density is the share of pairs of blocks that a list holds; blocks have 128 tokens at most",
    "GFLOP/s are those that are computed, 4 * heads * N^2 * head_dim times the density for block_sparse; dense GFLOP/s "
    "count all pairs, as the same time would be worth to a dense kernel",
    "of dense: time as a share of dense attention by sdpa; of a kernel whose time goes by its list it is near density",
    "error is the largest difference from float64 over some queries by the largest output, checked before any timing",
    "ms, p20, p80: samples taken in turns, on a CPU of its process's CPU time",
    "on a CPU the rows of block_sparse are interpreter checks only, which tests/kernels makes; they are never timed",
)


def bar(row: Row) -> tuple[str, str, float] | None:
    label = f"{row['pattern']} ({row['density']:.2f})\n{row['shape']} {row['dtype']}"
    return (label, row["way"], row["of dense"]) if row.get("of dense") else None


def main() -> None:
    question = (__doc__ or "").splitlines()[0]
    columns = ("density", "GFLOP/s", "dense GFLOP/s", "% of gemm", "of dense")
    keys = ("shape", "dtype", "pattern", "way")
    suite = Suite(question, "block_sparse", SHAPES, measure, keys, columns, NOTES, bar, "time / dense sdpa")
    options = parser(question, SHAPES, ALLOWED)
    options.add_argument("--patterns", nargs="*", choices=PATTERNS, default=list(PATTERNS))
    options.add_argument("--densities", nargs="*", type=float, default=[], help="also lists drawn at random")
    options.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    run(suite, options.parse_args())


if __name__ == "__main__":
    main()

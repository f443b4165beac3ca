"""What does a whole block of a DiT cost, by the pattern of its attention, its kernels and its small operations?

    python benchmarks/block.py --device cpu
    python benchmarks/block.py --device cuda --dtypes bfloat16 --backward

Blocks of the same width on the same tokens. Every way of a block is compared with its plain one before it is timed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from harness import interleaved
from suite import Grid, Row, Suite, parser, run, timed
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
class Shape(Grid):
    """Tokens with a width, heads, and words of text."""

    dim: int
    heads: int
    words: int


SHAPES = {
    "shapes": Shape("the shipped model, 33 frames", (9, 4, 4), 256, 4, 12),
    "latte-4f": Shape("Latte-XL/2 128 px, 4 frames", (4, 8, 8), 1152, 16, 120),
    "latte-256": Shape("Latte-XL/2 256 px, 16 frames", (16, 16, 16), 1152, 16, 120, cpu=False),
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


def measure(name: str, dtype_name: str, options: argparse.Namespace, _: Mapping[str, float]) -> list[Row]:
    """A row a block and way, the ways of one block timed in turns."""
    shape, dtype, rows = SHAPES[name], getattr(torch, dtype_name), []
    given = inputs(shape, dtype, options.device)
    for block in options.blocks:
        own: dict[str, Row] = {}
        runs: dict[str, Callable[[], Tensor]] = {}
        expected = None
        for way, (attention, _ops, compiled) in WAYS.items():
            if (attention != "sdpa" and options.device == "cpu") or (compiled and not options.compiled):
                continue
            if options.ways and way not in options.ways:
                continue
            row = own[way] = {"shape": name, "dtype": dtype_name, "block": block, "way": way}
            layer = build(block, way, shape, dtype, options.device)
            out = call(layer, given, False)().double()
            expected = out if expected is None else expected
            row["error"] = float((out - expected).abs().max() / expected.abs().max())
            row["status"] = "ok" if row["error"] <= ALLOWED[dtype_name] else "wrong, not timed"
            if row["status"] == "ok":
                runs[way] = call(layer, given, options.backward)
        times = interleaved(runs, device=options.device, rounds=options.rounds, seconds=options.seconds)
        for way, found in times.items():
            own[way] |= timed(found) | {"speed-up": times["plain"].median / found.median if "plain" in times else None}
        rows += own.values()
    whole = next((row["ms"] for row in rows if row["block"] == BLOCKS[0] and row["way"] == "plain"), None)
    for row in rows:
        if whole and "ms" in row:
            row["of full3d"] = row["ms"] / whole
    return rows


NOTES = (
    "plain: torch's attention and operators; compiled: torch.compile of it; triton: attention=triton; sparse: "
    "attention=block_sparse; fused: fused=triton",
    "every block has attention to text, adaLN-Zero, RMSNorm of queries and keys, RoPE and a SwiGLU; factorized has two "
    "attentions",
    "error is the largest difference from the plain block by its largest output, checked before any timing",
    "ms, p20, p80: samples taken in turns, on a CPU of its process's CPU time; speed-up is over the plain block",
    "of full3d: time as a share of that of the plain block with full attention, from other samples",
    "on a CPU there are no rows of Triton kernels: they are interpreter checks only there, which tests/kernels makes",
)


def bar(row: Row) -> tuple[str, str, float] | None:
    return (f"{row['block']}\n{row['shape']} {row['dtype']}", row["way"], row["ms"]) if row.get("ms") else None


def main() -> None:
    question = (__doc__ or "").splitlines()[0]
    options = parser(question, SHAPES, ALLOWED)
    options.add_argument("--blocks", nargs="+", choices=BLOCKS, default=list(BLOCKS))
    options.add_argument("--ways", nargs="+", choices=WAYS, help="default: all that suit the device")
    options.add_argument("--backward", action="store_true", help="forward and backward")
    options.add_argument(
        "--compiled",
        action=argparse.BooleanOptionalAction,
        default=torch.cuda.is_available(),
        help="also what torch.compile makes of a block; by default on a GPU, since on a CPU it takes minutes",
    )
    options.set_defaults(rounds=9 if torch.cuda.is_available() else 5)
    columns = ("speed-up", "of full3d")
    keys = ("shape", "dtype", "block", "way")
    run(Suite(question, "block", SHAPES, measure, keys, columns, NOTES, bar, "ms"), options.parse_args())


if __name__ == "__main__":
    main()

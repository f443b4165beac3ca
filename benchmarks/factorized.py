"""What does it save to read groups of tokens where they lie, instead of rearranging them?

    python benchmarks/factorized.py --device cpu
    python benchmarks/factorized.py --device cuda --dtypes bfloat16

The op between the projections of a factorised or skipping block, with its rearranges and in place, and the block with
it. Results are compared with each other before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from harness import RESULTS, ceilings, facts, interleaved, markdown_table, plot_bars, write
from torch import Tensor

from videogen.dit.blocks import BlockCondition
from videogen.dit.layers import SelfAttention
from videogen.dit.parts import choose
from videogen.dit.patterns import Full, Heads, Pattern, SkipGroup, SkipSingle, Spatial, Temporal
from videogen.kernels import ATTENTION, Attention, attend_axes

PATTERNS: dict[str, Pattern] = {
    "spatial": Spatial(),
    "temporal": Temporal(),
    "full": Full(),
    "single skip": SkipSingle(4),
    "group skip": SkipGroup(4),
}
# largest difference between both ways as a share of the largest output: the order of sums, in each dtype
ALLOWED = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


def rearranged(
    pattern: Pattern, kernel: Attention, heads: Heads, grid: tuple[int, int, int], copies: bool = True
) -> Tensor:
    """As attention is called without axes: q, k and v in groups, the kernel, and the inverse.

    Args:
        copies: each is a copy; otherwise only where no view will do, which depends on the layout and the batch.
    """
    q, k, v, _, _ = pattern.group(heads, grid, None)
    out = kernel(*((x.contiguous() if copies else x).transpose(1, 2) for x in (q, k, v)))
    return pattern.ungroup(out.transpose(1, 2), grid, None).contiguous()


class Rearranging(SelfAttention):
    """The layer with copies between its projections."""

    def forward(self, tokens: Tensor, condition: BlockCondition) -> Tensor:
        heads = self._turned(self._packed(tokens), condition.rotary)
        return self._projected(rearranged(self.pattern, self.kernel, heads, condition.grid))


def runs(name: str, options: argparse.Namespace, dtype: torch.dtype) -> dict[str, dict[str, Callable[[], Tensor]]]:
    """What is compared: "op" from packed projections to what the output projection takes, "layer" with both."""
    pattern, kernel = PATTERNS[name], ATTENTION.build("sdpa")
    grid, side = (options.frames, 1, options.positions), options.width
    torch.manual_seed(0)
    tokens = torch.randn(options.batch, grid[0] * grid[2], side, device=options.device, dtype=dtype)
    condition = BlockCondition(grid=grid, time=tokens[:, :1])
    chosen = choose(qk_norm="none")
    kit = chosen.kit(chosen.modulation(side, side, chosen.norm), bias=True)
    layers = [
        kind(side, options.heads, kit, pattern).to(options.device, dtype) for kind in (SelfAttention, Rearranging)
    ]
    layers[1].load_state_dict(layers[0].state_dict())
    axes = pattern.axes(grid)
    assert axes is not None
    apart, packed = layers[0]._apart(tokens), layers[0]._packed(tokens)
    # a group of runs is put in order in front of the projections
    apart, placed = (apart, axes) if axes.strided else (Heads(*(axes.gather(x) for x in apart)), axes.gathered)
    found = {
        "op": {
            "in place": lambda: attend_axes(kernel, *apart, placed),
            "rearranged": lambda: rearranged(pattern, kernel, packed, grid),
            "views": lambda: rearranged(pattern, kernel, packed, grid, copies=False),
        },
        "layer": {
            "in place": lambda: layers[0](tokens, condition),
            "rearranged": lambda: layers[1](tokens, condition),
        },
    }
    if options.device == "cuda":
        triton = ATTENTION.build("triton")
        qkv = layers[0].qkv(tokens).unflatten(-1, (3, options.heads, -1))
        found["op"]["triton"] = lambda: triton.packed(qkv, axes)  # type: ignore[attr-defined]
    return found


def measure(name: str, dtype_name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a way, the ways of one thing timed in turns."""
    rows = []
    axes = PATTERNS[name].axes((options.frames, 1, options.positions))
    assert axes is not None
    with torch.no_grad():
        for part, ways in runs(name, options, getattr(torch, dtype_name)).items():
            outs = {way: run().double() for way, run in ways.items()}
            if part == "op" and not axes.strided:
                outs["in place"] = axes.scatter(outs["in place"])
            scale = outs["rearranged"].abs().max()
            for way, out in outs.items():
                error = float((out - outs["rearranged"]).abs().max() / scale)
                if not error <= ALLOWED[dtype_name]:
                    raise ValueError(f"{name} {part} {way} is off by {error:g}: nothing is timed")
            del outs, out
            timing = interleaved(ways, device=options.device, rounds=options.rounds, seconds=options.seconds)
            base = timing["rearranged"].median
            for way, found in timing.items():
                row = {"layout": name, "dtype": dtype_name, "what": part, "way": way, "ms": found.median}
                row |= {"p20": found.p20, "p80": found.p80, "wall ms": found.wall, "speed-up": base / found.median}
                rows.append(row)
    return rows


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    columns = ["layout", "dtype", "what", "way", "ms", "p20", "p80", "wall ms", "speed-up"]
    report = {"facts": facts(options.device), "rows": rows, "shape": vars(options)}
    report["ceilings"] = {dtype: ceilings(options.device, getattr(torch, dtype)) for dtype in options.dtypes}
    stem = f"factorized_{options.device}"
    shape = f"batch {options.batch}, T={options.frames}, S={options.positions}, width {options.width}"
    for dtype in options.dtypes:
        for name in options.layouts:
            found = measure(name, dtype, options)
            print(markdown_table(found, columns), flush=True)
            rows += found
            known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
            text = f"# {(__doc__ or '').splitlines()[0]} ({options.device})\n\n{shape}, {options.heads} heads.\n\n"
            notes = "\n".join(f"- {line}" for line in NOTES)
            write(stem, report, f"{text}{markdown_table(rows, columns)}\n\n{notes}\n\nMachine: {known}")
    bars: dict[str, dict[str, float]] = {}
    for row in rows:
        bars.setdefault(f"{row['layout']}\n{row['what']} {row['dtype']}", {})[row["way"]] = row["speed-up"]
    plot_bars(RESULTS / f"{stem}.png", bars, title=f"groups in place on {options.device}, {shape}", ylabel="speed-up")


NOTES = (
    "op is what lies between the projections; layer has both projections, without norms and positions",
    "in place: torch's attention reads strides, the groups behind their tokens being heads; of group skip the tokens "
    "are put in order in front of the projection, so that its op holds no copy, and its layer two copies for four",
    "views: groups of the packed projection as views where torch finds one, copies elsewhere; a batch of one helps it",
    "ms, p20, p80: samples taken in turns, on a CPU of its process's CPU time; speed-up is a ratio of medians",
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--layouts", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--dtypes", nargs="+", choices=ALLOWED, default=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--positions", type=int, default=1024, help="tokens of a frame")
    parser.add_argument("--width", type=int, default=1152)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9, help="samples of each way")
    parser.add_argument("--seconds", type=float, default=0.02, help="least CPU time of one sample")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with one, CPU time is a fair clock")
    return parser.parse_args()


if __name__ == "__main__":
    main()

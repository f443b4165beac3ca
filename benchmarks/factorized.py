"""What does it save to read groups of tokens where they lie, instead of rearranging them?

    python benchmarks/factorized.py --device cpu
    python benchmarks/factorized.py --device cuda --dtypes bfloat16

The op between the projections of a factorised or skipping block, with its rearranges and in place, and the block with
it. Results are compared with each other before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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


class Way(NamedTuple):
    """One way to compute something: a function, its inputs, and how its result is put in the order of the tokens."""

    run: Callable[..., Tensor]
    inputs: Sequence[Tensor]
    ordered: Callable[[Tensor], Tensor] = lambda out: out


def ways(name: str, options: argparse.Namespace, dtype: torch.dtype) -> dict[str, dict[str, Way]]:
    """What is compared: "op" from packed projections to what the output projection takes, "layer" with both."""
    pattern, kernel = PATTERNS[name], ATTENTION.build("sdpa")
    grid, side = (options.frames, 1, options.positions), options.width
    torch.manual_seed(0)
    tokens = torch.randn(options.batch, grid[0] * grid[2], side, device=options.device, dtype=dtype)
    condition = BlockCondition(grid=grid, time=tokens[:, :1])
    axes = pattern.axes(grid)
    assert axes is not None
    layers = {
        "in place": layer(SelfAttention, "sdpa", pattern, options, dtype),
        "rearranged": layer(Rearranging, "sdpa", pattern, options, dtype),
    }
    if options.device == "cuda":
        layers["triton"] = layer(SelfAttention, "triton", pattern, options, dtype)
    for other in layers.values():
        other.load_state_dict(layers["in place"].state_dict())
    with torch.no_grad():
        apart = layers["in place"]._apart(tokens)
        qkv = layers["in place"].qkv(tokens).unflatten(-1, (3, options.heads, -1))
        # a group of runs is put in order in front of the projections
        placed = axes if axes.strided else axes.gathered
        apart = apart if axes.strided else Heads(*(axes.gather(x) for x in apart))
    op = {
        "in place": Way(
            lambda *qkv: attend_axes(kernel, *qkv, placed), apart, (lambda out: out) if axes.strided else axes.scatter
        ),
        "rearranged": Way(lambda qkv: rearranged(pattern, kernel, Heads(*qkv.unbind(2)), grid), [qkv]),
        "views": Way(lambda qkv: rearranged(pattern, kernel, Heads(*qkv.unbind(2)), grid, copies=False), [qkv]),
    }
    if options.device == "cuda":
        triton = ATTENTION.build("triton")
        op["triton"] = Way(lambda qkv: triton.packed(qkv, axes), [qkv])  # type: ignore[attr-defined]
    whole = {way: Way(lambda tokens, layer=made: layer(tokens, condition), [tokens]) for way, made in layers.items()}
    return {"op": op, "layer": whole}


def layer(
    kind: type[SelfAttention], attention: str, pattern: Pattern, options: argparse.Namespace, dtype: torch.dtype
) -> SelfAttention:
    """A layer of attention with random weights."""
    chosen = choose(ATTENTION.build(attention), qk_norm="none")
    kit = chosen.kit(chosen.modulation(options.width, options.width, chosen.norm), bias=True)
    return kind(options.width, options.heads, kit, pattern).to(options.device, dtype)


def call(way: Way, backward: bool) -> Callable[[], object]:
    """Forward, or forward and backward."""
    if not backward:

        def forward() -> Tensor:
            with torch.no_grad():
                return way.run(*way.inputs)

        return forward
    leaves = [x.detach().requires_grad_() for x in way.inputs]
    upstream = torch.randn_like(way.run(*leaves))
    return lambda: torch.autograd.grad(way.run(*leaves), leaves, upstream)


def measure(name: str, dtype_name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a way, the ways of one thing timed in turns; what is off is told and not timed."""
    rows: list[dict[str, Any]] = []
    for part, found in ways(name, options, getattr(torch, dtype_name)).items():
        found = {way: made for way, made in found.items() if not options.ways or way in options.ways}
        with torch.no_grad():
            wanted = found["rearranged"].run(*found["rearranged"].inputs)
            own: dict[str, dict[str, Any]] = {}
            for way, made in found.items():
                off = made.ordered(made.run(*made.inputs)) - wanted
                error = float(off.abs().max() / wanted.abs().max())
                status = "ok" if error <= ALLOWED[dtype_name] else "wrong, not timed"
                own[way] = {"layout": name, "dtype": dtype_name, "what": part, "way": way}
                own[way] |= {"error": error, "status": status}
            del wanted, off
        runs = {way: call(made, options.backward) for way, made in found.items() if own[way]["status"] == "ok"}
        timing = interleaved(runs, device=options.device, rounds=options.rounds, seconds=options.seconds)
        base = timing["rearranged"].median
        for way, took in timing.items():
            own[way] |= {"ms": took.median, "p20": took.p20, "p80": took.p80, "wall ms": took.wall}
            own[way]["speed-up"] = base / took.median
        rows += own.values()
    return rows


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    columns = ["layout", "dtype", "what", "way", "error", "ms", "p20", "p80", "wall ms", "speed-up", "status"]
    report = {"facts": facts(options.device), "rows": rows, "shape": vars(options)}
    report["ceilings"] = {dtype: ceilings(options.device, getattr(torch, dtype)) for dtype in options.dtypes}
    stem = f"factorized_{options.device}{options.suffix}" + ("_backward" if options.backward else "")
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
        if "speed-up" in row:
            bars.setdefault(f"{row['layout']}\n{row['what']} {row['dtype']}", {})[row["way"]] = row["speed-up"]
    plot_bars(RESULTS / f"{stem}.png", bars, title=f"groups in place on {options.device}, {shape}", ylabel="speed-up")


NOTES = (
    "op is what lies between the projections; layer has both projections, without norms and positions",
    "in place: torch's attention reads strides, the groups behind their tokens being heads; of group skip the tokens "
    "are put in order in front of the projection, so that its op holds no copy, and its layer two copies for four",
    "triton: attention=triton, which reads the packed projection; its layer has the kernel alone in place of torch's",
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
    parser.add_argument("--suffix", default="", help="of the files with results")
    parser.add_argument("--ways", nargs="+", help="default: all; rearranged is what they are compared with")
    parser.add_argument("--backward", action="store_true", help="forward and backward")
    parser.add_argument("--rounds", type=int, default=9, help="samples of each way")
    parser.add_argument("--seconds", type=float, default=0.02, help="least CPU time of one sample")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with one, CPU time is a fair clock")
    return parser.parse_args()


if __name__ == "__main__":
    main()

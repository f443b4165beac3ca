"""Which tile is the fastest on this card, in each pass of attention?

    python benchmarks/tiles.py
    python benchmarks/tiles.py --head-dims 128 --passes forward described --shape 4 24 8192

The forward by pointers and by tensor descriptors, and both kernels of the backward, on every tile that fits, beside
torch's FlashAttention-2 and cuDNN. All forms are compiled first, in processes beside each other; each meets torch's
numbers before it meets the clock.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from harness import ceilings, compile_ahead, facts, interleaved, markdown_table, write
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from videogen.kernels._flash import Sides, _forward, backward_keys, backward_queries
from videogen.kernels._flash_forward import NO_MASK
from videogen.kernels._flash_tiles import Pass, Tile, choose_tile, shared_bytes
from videogen.kernels._triton import card, padded

BLOCKS = {
    "forward": ((64, 128), (32, 64, 128)),
    "queries": ((64, 128), (32, 64, 128)),
    "keys": ((32, 64, 128), (64, 128)),
}
WARPS, STAGES = (4, 8), {"forward": (2, 3, 4), "queries": (1, 2, 3), "keys": (1, 2, 3)}
#: what a pass is of: its kernel's tiles, and its products, where the forward has two
PASSES: dict[str, tuple[Pass, int]] = {
    "forward": ("forward", 2),
    "described": ("forward", 2),
    "queries": ("queries", 3),
    "keys": ("keys", 4),
}
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
#: size of the difference from torch's by the size of torch's, both in 16 bits
ALLOWED = 2e-2
#: registers of a thread that accumulators and scores may take by a rough count; what is above spills
REGISTERS = 230


class Case(NamedTuple):
    """What all passes work on: the call, its results and the gradient of its output, as (B, N, heads, head_dim)."""

    sides: Sides
    out: Tensor
    lse: Tensor
    d_out: Tensor
    grads: list[Tensor]
    true: list[Tensor]

    @property
    def flops(self) -> float:
        """Of one product."""
        _, batch, queries, _, heads, head_dim = self.sides.q.shape
        return 2.0 * batch * heads * queries * self.sides.k.shape[2] * head_dim


@functools.lru_cache(maxsize=1)
def case(shape: tuple[int, int, int], head_dim: int, dtype: torch.dtype) -> Case:
    """Random operands, with torch's results."""
    batch, heads, length = shape
    torch.manual_seed(0)
    q, k, v, d_out = (
        torch.randn(batch, length, heads, head_dim, device="cuda", dtype=dtype).requires_grad_(i < 3) for i in range(4)
    )
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
        grads = torch.autograd.grad(out, (q, k, v), d_out)
    sides = Sides(*(x.detach()[None, :, :, None] for x in (q, k, v)), None, None, None, 0, 0)
    lse = sides.new_lse()
    mine = torch.empty_like(sides.q)
    _forward(sides, mine, lse, [])
    return Case(
        sides, mine, lse, d_out[None, :, :, None], [torch.empty_like(x) for x in sides[:3]], [out.detach(), *grads]
    )


def tiles(name: str, head_dim: int) -> Iterator[Tile]:
    """What may be worth a try: it fits Hopper's shared memory and is not sure to spill."""
    kernel, _ = PASSES[name]
    width = padded(head_dim)
    for (block_m, block_n), warps, stages in itertools.product(
        itertools.product(*BLOCKS[kernel]), WARPS, STAGES[kernel]
    ):
        tile = Tile(block_m, block_n, warps, stages)
        sums = {"forward": block_m, "queries": block_m, "keys": 2 * block_n}[kernel] * width
        scores = block_m * block_n * (1.5 if kernel == "forward" else 2.5)
        if (sums + scores) / (32 * warps) <= REGISTERS and shared_bytes(kernel, tile, width, 2, NO_MASK) <= 232_448:
            yield tile


def launch(name: str, given: Case, tile: Sequence[int], delta: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Run a pass on a tile; its results and torch's."""
    sides, (d_q, d_k, d_v) = given.sides, given.grads
    if name in ("forward", "described"):
        _forward(sides, given.out, given.lse, [*tile, int(name == "described")])
        return [(given.out, given.true[0])]
    if name == "queries":
        backward_queries(sides, given.d_out, given.out, given.lse, delta, d_q, tile)
        return [(d_q, given.true[1])]
    backward_keys(sides, given.d_out, given.lse, delta, d_k, d_v, tile)
    return [(d_k, given.true[2]), (d_v, given.true[3])]


def delta_of(given: Case) -> Tensor:
    """What the kernel of queries hands on to that of keys."""
    return (given.out.float() * given.d_out.float()).sum(-1)[0, :, :, 0].transpose(1, 2).contiguous()


def small(shape: Sequence[int]) -> tuple[int, int, int]:
    """A shape for which the same is compiled: Triton tells apart sizes of one, multiples of 16 and others."""
    batch, heads = (size if size == 1 else 2 if size % 16 else 16 for size in shape[:2])
    return batch, heads, 250 if shape[2] % 16 else 256


def try_out(name: str, head_dim: int, tile: Tile, dtype: str, shape: tuple[int, int, int]) -> float:
    """Compile and run it once; the size of its error as a share of the result's."""
    given = case(shape, head_dim, getattr(torch, dtype))
    delta = delta_of(given) if name == "keys" else torch.zeros_like(given.lse)
    for x in (*given.grads, *([given.out] if name in ("forward", "described") else [])):
        x.fill_(float("nan"))
    pairs = launch(name, given, tile, delta)
    return max(float((got[0, :, :, 0] - true).float().norm() / true.float().norm()) for got, true in pairs)


def torchs(given: Case) -> dict[str, dict[str, Callable[[], object]]]:
    """Forward and backward of torch's kernels."""
    q, k, v = (x[0, :, :, 0].transpose(1, 2).detach().requires_grad_() for x in given.sides[:3])
    upstream = given.d_out[0, :, :, 0].transpose(1, 2)
    found: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "backward": {}}
    for name, backend in BACKENDS.items():

        def forward(backend: SDPBackend = backend) -> Tensor:
            with sdpa_kernel(backend):
                return scaled_dot_product_attention(q, k, v)

        def inferred(forward: Callable[[], Tensor] = forward) -> Tensor:
            with torch.no_grad():
                return forward()

        try:
            out = forward()
            torch.autograd.grad(out, (q, k, v), upstream, retain_graph=True)
        except RuntimeError as refusal:
            print(f"{name}: {str(refusal).splitlines()[0]}", flush=True)
            continue
        found["forward"][name] = inferred
        found["backward"][name] = functools.partial(torch.autograd.grad, out, (q, k, v), upstream, retain_graph=True)
    return found


def measure(name: str, head_dim: int, options: argparse.Namespace, beside: dict[str, float]) -> list[dict[str, Any]]:
    """A row a tile, the fastest first."""
    given = case(tuple(options.shape), head_dim, getattr(torch, options.dtype))
    capability, shared = card(given.out.device)
    # gradients begin from what the tile that ships makes of the forward
    _forward(given.sides, given.out, given.lse, [])
    kernel, products = PASSES[name]
    ships = choose_tile(kernel, padded(head_dim), 2, NO_MASK, capability=capability, shared=shared)
    rows, runs = [], {}
    for tile in dict.fromkeys((ships, *tiles(name, head_dim))):
        row: dict[str, Any] = {"pass": name, "head_dim": head_dim, "tile": " ".join(map(str, tile))}
        row["ships"] = "yes" if tile == ships else ""
        rows.append(row)
        try:
            row["error"] = try_out(name, head_dim, tile, options.dtype, tuple(options.shape))
        except Exception as refusal:  # what a compiler or a card raises is its own matter; it is told
            row["status"] = f"{type(refusal).__name__}: {(str(refusal).splitlines() or [''])[0]}"
            continue
        row["status"] = "ok" if row["error"] <= ALLOWED else "wrong, not timed"
        if row["status"] == "ok":
            delta = torch.zeros_like(given.lse)
            runs[row["tile"]] = functools.partial(launch, name, given, tile, delta)
    times = interleaved(runs, device="cuda", rounds=options.rounds, seconds=0.0)
    for row in rows:
        if (found := times.get(row["tile"])) is not None:
            row |= {"ms": found.median, "p20": found.p20, "p80": found.p80}
            row["TFLOP/s"] = 1e-9 * products * given.flops / found.median
            if name in ("forward", "described") and "flash" in beside:
                row["by flash"] = beside["flash"] / found.median
    return sorted(rows, key=lambda row: row.get("ms", float("inf")))


def main() -> None:
    options = parse()
    forms = [(name, size, tile) for size in options.head_dims for name in options.passes for tile in tiles(name, size)]
    if not options.no_ahead:
        compile_ahead([functools.partial(try_out, *form, options.dtype, small(options.shape)) for form in forms])
    if options.compile_only:
        return
    dtype = getattr(torch, options.dtype)
    batch, heads, length = options.shape
    report: dict[str, Any] = {"question": (__doc__ or "").splitlines()[0], "facts": facts("cuda"), "rows": []}
    report |= {"ceilings": {options.dtype: ceilings("cuda", dtype)}, "shape": options.shape}
    columns = ["pass", "head_dim", "tile", "ships", "error", "ms", "p20", "p80", "TFLOP/s", "by flash", "status"]
    told = f"batch {batch}, {heads} heads, {length} tokens, {options.dtype}; a tile is block_m block_n warps stages"
    for size in options.head_dims:
        given = case(tuple(options.shape), size, dtype)
        beside: dict[str, dict[str, float]] = {}
        for way, calls in torchs(given).items():
            times = interleaved(calls, device="cuda", rounds=options.rounds, seconds=0.0)
            beside[way] = {name: found.median for name, found in times.items()}
            products = 2 if way == "forward" else 5
            for name, took in beside[way].items():
                row = {"pass": f"torch {way}", "head_dim": size, "tile": name, "ms": took, "status": "ok"}
                report["rows"].append(row | {"TFLOP/s": 1e-9 * products * given.flops / took})
        for name in options.passes:
            report["rows"] += measure(name, size, options, beside["forward"])
            text = [f"# {report['question']}", told, markdown_table(report["rows"], columns)]
            known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
            write("tiles_cuda", report, "\n\n".join([*text, f"Machine: {known}"]))
        del given
    print(markdown_table(report["rows"], columns))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--head-dims", nargs="+", type=int, default=[128, 64])
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--shape", nargs=3, type=int, default=[2, 24, 8192], help="batch, heads, tokens")
    parser.add_argument("--dtype", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each tile")
    parser.add_argument("--no-ahead", action="store_true", help="compile nothing beforehand")
    parser.add_argument("--compile-only", action="store_true", help="fill the caches on disk and time nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()

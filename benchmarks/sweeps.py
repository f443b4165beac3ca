"""Which form of the kernels for lists of blocks, for groups in place and for small operations is the fastest here?

    python benchmarks/sweeps.py
    python benchmarks/sweeps.py --parts groups --rounds 9

Tiles, warps and stages, and rows of a program, around what ships. Every form meets the result of the one that ships,
which tests hold against float64, before it meets the clock. `benchmarks/tiles.py` is the same of dense attention.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import block_sparse
import fused_ops
import torch
from harness import ceilings, compile_ahead, facts, interleaved, markdown_table, write
from torch import Tensor

from videogen.kernels import _block_sparse, _flash
from videogen.kernels._flash_descriptors import forward_described
from videogen.kernels._flash_forward import NO_MASK
from videogen.kernels._flash_tiles import Pass, Tile, packing
from videogen.kernels.fused import FUSED, _gated, _qk_norm_rope, _residual_norm

Form = Callable[[], Sequence[Tensor]]
DEVICE = "cuda"
#: size of the difference from what ships by the size of that, all in 16 bits
ALLOWED = 2e-2


class Sweep(NamedTuple):
    """One kernel on one input.

    Args:
        forms: each a run and its results; the first is what ships.
        work: of a run, in 1e9 floating-point operations or 1e9 bytes.
        unit: of its rate.
    """

    forms: Mapping[str, Form]
    work: float
    unit: str


def tiles(text: str) -> list[Tile]:
    return [Tile(*map(int, part.split())) for part in text.split(",")]


def packed_input(length: Sequence[int], heads: int, head_dim: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(1, *length, 3, heads, head_dim, device=DEVICE, dtype=torch.bfloat16)


# lists of blocks: heads, head_dim, tokens, density
LISTS = {"64": (24, 64, 16_384, 0.25), "96": (24, 96, 16_384, 0.25), "128": (12, 128, 16_384, 0.25)}
LIST_TILES = {
    "forward": "128 64 8 3,128 64 8 4,128 64 4 3,64 64 4 3,64 64 4 4,64 128 4 3,128 128 8 2",
    "backward_queries": "128 64 8 2,128 64 8 3,64 64 4 2,64 64 4 3,128 64 4 3,64 32 4 3,128 32 4 3",
    "backward_keys": "32 64 4 2,32 64 4 3,64 64 4 2,64 64 4 3,32 128 4 3,32 128 8 3,64 128 8 3",
}


def lists(name: str, kernel: str) -> Sweep:
    """A pass of attention by a list of blocks drawn at random."""
    heads, head_dim, tokens, density = LISTS[name]
    q, k, v = packed_input([tokens], heads, head_dim).permute(2, 0, 3, 1, 4)
    blocks = block_sparse.of_density(tokens, density, q.device)
    d_out, *grads = (torch.randn_like(q.transpose(1, 2).contiguous()).transpose(1, 2) for _ in range(4))
    ahead, back = (blocks.tokens, blocks.first, blocks.keys), (blocks.tokens, blocks.first_back, blocks.queries)
    out, lse = _block_sparse.block_sparse_attention(q, k, v, *ahead, *back[1:], True, False)
    delta, zero, strided = torch.empty_like(lse), torch.zeros_like(lse), (q, k, v, out, lse)
    given = {
        "forward": (q, k, v, out, lse),
        "backward_queries": (q, k, v, out, d_out, grads[0], lse, zero, delta),
        "backward_keys": (q, k, v, d_out, *grads[1:], lse, delta),
    }
    results = {"forward": [out], "backward_queries": grads[:1], "backward_keys": grads[1:]}[kernel]
    _block_sparse._launch("backward_queries", given["backward_queries"], strided, ahead, False)

    def run(tile: Tile | None) -> Sequence[Tensor]:
        _block_sparse._launch(kernel, given[kernel], strided, back if "keys" in kernel else ahead, False, tile)
        return results

    forms = {"ships": functools.partial(run, None)}
    forms |= {" ".join(map(str, tile)): functools.partial(run, tile) for tile in tiles(LIST_TILES[kernel])}
    products = {"forward": 4, "backward_queries": 6, "backward_keys": 8}[kernel]
    return Sweep(forms, 1e-9 * products * heads * tokens**2 * head_dim * blocks.density, "GFLOP/s")


# groups in place: frames, positions, heads, head_dim
GRIDS = {"latte": (16, 1024, 16, 72), "osp": (29, 1200, 12, 96)}
LAYOUTS = ("temporal", "spatial", "group skip")
GROUP_TILES = {
    "forward": "128 64 8 3,128 128 8 3,64 64 4 3,64 128 4 2,128 32 4 3",
    "queries": "128 64 8 3,64 64 8 2,64 64 4 2,64 32 4 3",
    "keys": "32 64 4 3,64 64 4 2,32 128 8 2,32 64 8 3",
}


def groups(grid: str, layout: str, kernel: Pass) -> Sweep:
    """A pass of attention within groups of a packed projection."""
    frames, positions, heads, head_dim = GRIDS[grid]
    skips = [frames * positions // 16, 4, 4]
    qkv = packed_input(skips if layout == "group skip" else [frames, positions, 1], heads, head_dim)

    def placed(x: Tensor) -> Sequence[Tensor]:
        # (G, J, N, I, heads, head_dim) of each; frames are groups as they lie
        return [part.transpose(1, 2) if layout != "spatial" else part for part in x.unbind(4)]

    q, k, v = placed(qkv)
    sides = _flash.Sides(q, k, v, None, None, None, 0, 0)
    d_q, d_k, d_v = placed(torch.empty_like(qkv))
    out, lse = _flash._outputs(sides)
    _flash._forward(sides, out, lse, [])
    d_out, delta = torch.randn_like(out), torch.zeros_like(lse)
    _flash.backward_queries(sides, d_out, out, lse, delta, d_q)
    queries, tensors = sides.lengths[0], (*sides[:3], out)
    pointers: dict[str, tuple[Tensor, ...]] = {
        "forward": (*tensors, lse),
        "queries": (*tensors, d_out, d_q, lse, delta),
        "keys": (*sides[:3], d_out, d_k, d_v, lse, delta),
    }
    strided = {"forward": tensors, "queries": (*tensors, d_q), "keys": (*sides[:3], d_out, d_k, d_v)}[kernel]
    results = {"forward": [out], "queries": [d_q], "keys": [d_k, d_v]}[kernel]
    function: Any = getattr(_flash, "flash_forward" if kernel == "forward" else f"flash_backward_{kernel}")

    def run(tile: Tile, pack: int) -> Sequence[Tensor]:
        side = tile.block_n if kernel == "keys" else tile.block_m
        if kernel == "queries":
            # it adds to what is there
            delta.zero_()
        _flash._launch(function, sides, pointers[kernel], strided, queries, side, tile, pack)
        return results

    def described(tile: Tile) -> Sequence[Tensor]:
        forward_described(sides, out, lse, tile._asdict())
        return results

    tile, pack = _flash.tile_of(kernel, sides)
    forms: dict[str, Form] = {f"ships: {' '.join(map(str, tile))} pack {pack}": functools.partial(run, tile, pack)}
    if layout == "temporal":
        for rows, warps in itertools.product((32, 64, 128), (2, 4, 8)):
            count = packing(queries, queries, sides.groups, NO_MASK, rows)
            forms[f"{rows} {rows} {warps} 1 pack {count}"] = functools.partial(run, Tile(rows, rows, warps, 1), count)
        moved = 4 if kernel == "forward" else 6
        return Sweep(forms, 1e-9 * moved * out.nbytes, "GB/s")
    for tile in tiles(GROUP_TILES[kernel]):
        forms[" ".join(map(str, tile))] = functools.partial(run, tile, 1)
        if layout == "spatial" and kernel == "forward":
            forms[f"tma {' '.join(map(str, tile))}"] = functools.partial(described, tile)
    products = {"forward": 4, "queries": 6, "keys": 8}[kernel]
    return Sweep(forms, 1e-9 * products * sides.groups * queries**2 * heads * head_dim, "GFLOP/s")


@contextlib.contextmanager
def constants(module: ModuleType, **values: Any) -> Iterator[None]:
    """Other constants of a launcher, which looks them up when it launches."""
    before = {name: getattr(module, name) for name in values}
    try:
        vars(module).update(values)
        yield
    finally:
        vars(module).update(before)


def knobs(operation: str, backward: bool) -> tuple[ModuleType, dict[str, dict[str, Any]]]:
    """The launcher of an operation, and its constants by the name of a form."""
    if operation == "qk_norm_rope":
        named = {f"{n} warps": {"warps_of": lambda *_, n=n: n} for n in ((2, 4, 8) if backward else (1, 2, 4, 8, 16))}
        if not backward:
            return _qk_norm_rope, named
        most = torch.cuda.get_device_properties(0).multi_processor_count if DEVICE == "cuda" else 1
        every = {f"{n} programs": {"programs": lambda _, rows, n=n: min(rows, n * most)} for n in (4, 8, 16, 32)}
        pairs = itertools.product(named.items(), every.items())
        return _qk_norm_rope, {f"{a} {b}": one | other for (a, one), (b, other) in pairs}
    if operation == "residual_norm":
        if not backward:
            return _residual_norm, {f"{n} warps": {"warps_of": lambda _, n=n: n} for n in (1, 2, 4, 8, 16)}
        shapes = itertools.product((4, 8, 16, 32), (128, 256, 512), (4, 8, 16))
        return _residual_norm, {
            f"{rows}x{columns} {n} warps": {"ROWS": rows, "COLUMNS": columns, "BACKWARD_WARPS": n}
            for rows, columns, n in shapes
            if 8 <= rows * columns / (32 * n) <= 16
        }
    pairs = itertools.product((512, 1024, 2048, 4096), (2, 4, 8))
    return _gated, {f"{size} {n} warps": {"BLOCK": size, "WARPS": n} for size, n in pairs if 4 <= size / (32 * n) <= 16}


OPERATIONS, TOKENS = ("qk_norm_rope", "residual_norm", "geglu"), ("osp-1.3", "wan-1.3b")


def operations(shape: str, operation: str, backward: bool) -> Sweep:
    """A small operation, or its gradient with the sums behind it."""
    case = fused_ops.cases(fused_ops.SHAPES[shape], torch.bfloat16, DEVICE)[operation]
    ops, moved = FUSED.build("triton"), case.moved_back if backward else case.moved
    leaves = [x.detach().requires_grad_(backward) for x in case.inputs]
    outs = case.call(ops, leaves) if backward else []
    upstream = [torch.randn_like(out) for out in outs]

    def run(**values: Any) -> Sequence[Tensor]:
        with constants(module, **values):
            if not backward:
                with torch.no_grad():
                    return case.call(ops, leaves)
            return torch.autograd.grad(outs, leaves, upstream, retain_graph=True)

    module, named = knobs(operation, backward)
    forms: dict[str, Form] = {"ships": run}
    forms |= {name: functools.partial(run, **values) for name, values in named.items()}
    own = fused_ops.SHAPES[shape]
    size = own.batch * own.tokens * own.heads * own.head_dim * 2
    return Sweep(forms, 1e-9 * moved * size, "GB/s")


def of_lists() -> Iterator[tuple[str, str, Callable[[], Sweep]]]:
    for name, kernel in itertools.product(LISTS, LIST_TILES):
        yield f"lists {kernel}", name, functools.partial(lists, name, kernel)


def of_groups() -> Iterator[tuple[str, str, Callable[[], Sweep]]]:
    for grid, layout, kernel in itertools.product(GRIDS, LAYOUTS, GROUP_TILES):
        yield f"{layout} {kernel}", grid, functools.partial(groups, grid, layout, kernel)  # type: ignore[arg-type]


def of_operations() -> Iterator[tuple[str, str, Callable[[], Sweep]]]:
    for shape, operation, backward in itertools.product(TOKENS, OPERATIONS, (False, True)):
        name = f"{operation} {'backward' if backward else 'forward'}"
        yield name, shape, functools.partial(operations, shape, operation, backward)


#: by part: kernel, input and how its sweep is made
SWEEPS = {"lists": [*of_lists()], "groups": [*of_groups()], "operations": [*of_operations()]}


def share(make: Callable[[], Sweep], first: int, step: int) -> None:
    """Run every `step`-th form of a sweep once."""
    with contextlib.suppress(Exception):
        for form in list(make().forms.values())[first::step]:
            with contextlib.suppress(Exception):
                form()
    # others are at work on the card too
    torch.cuda.empty_cache()


def measure(kernel: str, name: str, sweep: Sweep, rounds: int) -> list[dict[str, Any]]:
    """A row a form, the fastest first."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, Form] = {}
    wanted: list[Tensor] = []
    for label, form in sweep.forms.items():
        row: dict[str, Any] = {"kernel": kernel, "input": name, "form": label}
        rows.append(row)
        try:
            found = form()
        except Exception as refusal:  # what a compiler or a card raises is its own matter; it is told
            row["status"] = f"{type(refusal).__name__}: {(str(refusal).splitlines() or [''])[0]}"
            continue
        # results lie where those of the next form will
        wanted = wanted or [x.clone() for x in found]
        pairs = zip(found, wanted, strict=True)
        row["error"] = max(float((x - y).float().norm() / y.float().norm()) for x, y in pairs)
        row["status"] = "ok" if row["error"] <= ALLOWED else "wrong, not timed"
        if row["status"] == "ok":
            runs[label] = form
        for x in found:
            # what the next form leaves unwritten is told
            x.fill_(float("nan"))
    for label, took in interleaved(runs, device=DEVICE, rounds=rounds, seconds=0.0).items():
        row = next(row for row in rows if row["form"] == label)
        row |= {"ms": took.median, "p20": took.p20, "p80": took.p80, "rate": sweep.work / took.median * 1e3}
        row["unit"] = sweep.unit
    return sorted(rows, key=lambda row: row.get("ms", float("inf")))


def main() -> None:
    options = parse()
    chosen = [sweep for part in options.parts for sweep in SWEEPS[part]]
    if not options.no_ahead:
        compile_ahead([functools.partial(share, make, i, SHARES) for _, _, make in chosen for i in range(SHARES)])
    if options.compile_only:
        return
    report: dict[str, Any] = {"question": (__doc__ or "").splitlines()[0], "facts": facts(DEVICE), "rows": []}
    report["ceilings"] = {"bfloat16": ceilings(DEVICE, torch.bfloat16)}
    columns = ["kernel", "input", "form", "error", "ms", "p20", "p80", "rate", "unit", "status"]
    for kernel, name, make in chosen:
        report["rows"] += measure(kernel, name, make(), options.rounds)
        text = [f"# {report['question']}", NOTES, markdown_table(report["rows"], columns)]
        known = ", ".join(f"{key} {value}" for key, value in report["facts"].items() if value is not None)
        write(f"sweeps_{DEVICE}", report, "\n\n".join([*text, f"Machine: {known}"]))
        torch.cuda.empty_cache()
    print(markdown_table(report["rows"], columns))


#: parts of a sweep that are compiled beside each other
SHARES = 4
NOTES = (
    "bfloat16; a form of attention is block_m block_n warps stages, with the groups that share a tile, or with tma by "
    "tensor descriptors; GB/s count what has to be read and written at the least."
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--rounds", type=int, default=5, help="samples of each form")
    parser.add_argument("--no-ahead", action="store_true", help="compile nothing beforehand")
    parser.add_argument("--compile-only", action="store_true", help="fill the caches on disk and time nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()

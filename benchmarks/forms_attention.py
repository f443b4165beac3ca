"""Forms of attention by lists of blocks and of attention within groups in place, for `benchmarks/sweeps.py`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import block_sparse
import torch
from torch import Tensor

from videogen.kernels import _block_sparse, _flash
from videogen.kernels._flash_descriptors import forward_described
from videogen.kernels._flash_forward import NO_MASK
from videogen.kernels._flash_tiles import Pass, Tile, packing

DEVICE = "cuda"
Form = Callable[[], Sequence[Tensor]]


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


def of_lists() -> Iterator[tuple[str, str, Callable[[], Sweep]]]:
    for name, kernel in itertools.product(LISTS, LIST_TILES):
        yield f"lists {kernel}", name, functools.partial(lists, name, kernel)


def of_groups() -> Iterator[tuple[str, str, Callable[[], Sweep]]]:
    for grid, layout, kernel in itertools.product(GRIDS, LAYOUTS, GROUP_TILES):
        yield f"{layout} {kernel}", grid, functools.partial(groups, grid, layout, kernel)  # type: ignore[arg-type]

"""Attention by a list of blocks as one operator of torch: tiles, shapes, its shape-only twin and its gradient."""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from videogen.kernels._block_sparse_kernels import (
    block_sparse_backward_keys,
    block_sparse_backward_queries,
    block_sparse_forward,
)
from videogen.kernels._flash_tiles import Pass, Tile, full_precision_tile
from videogen.kernels._triton import INTERPRETED, SHARED, card, padded
from videogen.kernels._tuning import bucket, tuned
from videogen.kernels._variants import Variant

#: tiles of full precision are those of the dense kernels
PASSES: dict[str, Pass] = {"forward": "forward", "backward_queries": "queries", "backward_keys": "keys"}
LOG2_E = 1.4426950408889634
#: kernels by the name of their tiles
KERNELS = {
    "forward": block_sparse_forward,
    "backward_queries": block_sparse_backward_queries,
    "backward_keys": block_sparse_backward_keys,
}


@torch.library.custom_op("videogen::block_sparse_attention", mutates_args=())
def block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tokens: Tensor,
    first: Tensor,
    keys: Tensor,
    first_back: Tensor,
    queries: Tensor,
    complete: bool,
    tune: bool,
) -> tuple[Tensor, Tensor]:
    """q, k, v (B, heads, N, head_dim), last stride 1 -> output as they lie, and log-sum-exp (B, heads, N).

    The lists are the fields of `videogen.kernels.blocks.BlockList`; a token in no block gets zeros.

    Args:
        tune: measure which tile is the fastest, once, and keep it in a file.
    """
    out, lse = _output(q, complete), _logs(q, complete)
    if q.numel():
        _launch("forward", (q, k, v, out, lse), (q, k, v, out, lse), (tokens, first, keys), tune)
    return out, lse


@torch.library.custom_op("videogen::block_sparse_attention_backward", mutates_args=())
def block_sparse_gradient(
    grad: Tensor,
    grad_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    tokens: Tensor,
    first: Tensor,
    keys: Tensor,
    first_back: Tensor,
    queries: Tensor,
    complete: bool,
    tune: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v, all as the output lies, and so does `grad`."""
    dq, dk, dv = (_output(q, complete) for _ in range(3))
    if q.numel():
        strided, delta = (q, k, v, out, lse), torch.empty_like(lse)
        rows = (q, k, v, out, grad, dq, lse, grad_lse, delta)
        _launch("backward_queries", rows, strided, (tokens, first, keys), tune)
        columns = (q, k, v, grad, dk, dv, lse, delta)
        _launch("backward_keys", columns, strided, (tokens, first_back, queries), tune)
    return dq, dk, dv


def _launch(
    kernel: str,
    given: tuple[Tensor, ...],
    strided: tuple[Tensor, ...],
    lists: tuple[Tensor, Tensor, Tensor],
    tune: bool,
    tile: Tile | None = None,
) -> None:
    """Run a kernel on a tile, or on the one that ships or is the fastest."""
    q, *_, lse = strided
    (batch, heads, _, head_dim), (tokens, first, _) = q.shape, lists
    _, blocks, size = tokens.shape
    steps = [step for part in strided[:4] for step in part.stride()[:3]]
    steps += [*lse.stride()[:2], 0 if len(tokens) == 1 else tokens.stride(0)]
    steps += [0 if length == 1 else step for length, step in zip(first.shape[:2], first.stride(), strict=False)]
    fixed = {"HEAD_DIM": head_dim, "D": padded(head_dim), "SIZE": size}
    fixed |= {"UPCAST": INTERPRETED and q.dtype == torch.bfloat16}

    def run(tile: Tile) -> None:
        side = tile.block_n if kernel == "backward_keys" else tile.block_m
        KERNELS[kernel][(batch * heads * blocks * (size // side),)](
            *(*given, *lists, head_dim**-0.5 * LOG2_E, *steps, heads, blocks),
            **fixed,
            BLOCK_M=tile.block_m,
            BLOCK_N=tile.block_n,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )

    with torch.cuda.device(q.device) if q.is_cuda else contextlib.nullcontext():
        run(tile or _tile(kernel, q, size, lists[2], blocks, tune, run))


def _tile(
    kernel: str, q: Tensor, size: int, pairs: Tensor, blocks: int, tune: bool, run: Callable[[Tile], None]
) -> Tile:
    capability, shared = card(q.device)
    width = padded(q.shape[-1])
    tiles = tiles_for(kernel, capability, width, size, q.element_size(), shared)
    if not tune:
        return tiles[0]
    batch, heads, length, head_dim = q.shape
    density = bucket(math.ceil(16 * len(pairs) / blocks**2))
    case = f"block_sparse_{kernel} {q.dtype} {bucket(batch * heads)}x{bucket(length)}x{head_dim} {size} {density}/16"
    return tuned(case, tiles, run, q.device)


# by kernel, then padded head_dim: what ships first, then what tuning tries. For 16-bit inputs, none of the first spills
# on its card by ptxas's report, and it isn't timed
AMPERE: dict[str, dict[int, list[Tile]]] = {
    "forward": {
        32: [Tile(128, 64, 8, 2), Tile(128, 64, 4, 3)],
        64: [Tile(128, 64, 8, 3), Tile(64, 64, 4, 3), Tile(128, 32, 4, 3)],
        128: [Tile(128, 32, 8, 3), Tile(64, 32, 4, 3), Tile(128, 64, 8, 2)],
        256: [Tile(64, 16, 8, 2), Tile(32, 32, 8, 2)],
    },
    "backward_queries": {
        64: [Tile(64, 32, 8, 2), Tile(64, 64, 8, 2), Tile(64, 32, 4, 2)],
        128: [Tile(64, 32, 8, 2), Tile(64, 16, 8, 2)],
        256: [Tile(32, 16, 8, 1), Tile(16, 16, 8, 1)],
    },
    "backward_keys": {
        64: [Tile(32, 64, 8, 2), Tile(64, 64, 8, 2), Tile(32, 64, 4, 2)],
        128: [Tile(32, 64, 8, 2), Tile(16, 64, 8, 2)],
        256: [Tile(16, 32, 8, 1), Tile(16, 16, 8, 1)],
    },
}
# up to a head_dim of 128, of what spills nothing, the fastest by an H100's clock on 16,384 tokens, a quarter of their
# blocks (benchmarks/results/sweeps_cuda.md); two were faster there by 5 and by 3 to 7 %, but spill a few bytes, and
# are left to tuning: (128, 64, 4, 3) for queries at 64, (32, 64, 4, 3) for keys above. At 256 nothing was timed
HOPPER: dict[str, dict[int, list[Tile]]] = {
    "forward": {
        64: [Tile(128, 64, 4, 3), Tile(64, 64, 4, 3), Tile(128, 128, 8, 2)],
        128: [Tile(128, 64, 8, 3), Tile(64, 64, 4, 3), Tile(128, 64, 8, 4)],
        256: [Tile(64, 32, 8, 2), Tile(64, 64, 8, 2)],
    },
    "backward_queries": {
        64: [Tile(128, 32, 4, 3), Tile(128, 64, 4, 3), Tile(64, 64, 4, 3)],
        128: [Tile(128, 64, 8, 3), Tile(64, 32, 4, 3)],
        256: [Tile(32, 32, 8, 2), Tile(64, 16, 8, 2)],
    },
    "backward_keys": {
        64: [Tile(32, 64, 4, 2), Tile(32, 128, 4, 3), Tile(64, 64, 4, 2)],
        128: [Tile(32, 128, 8, 3), Tile(32, 64, 4, 3)],
        256: [Tile(16, 32, 8, 1), Tile(16, 64, 8, 1)],
    },
}


# where tensor memory holds products, fewer registers are left
BLACKWELL: dict[str, dict[int, list[Tile]]] = {
    "forward": {
        64: [Tile(128, 64, 8, 3), Tile(128, 128, 8, 3), Tile(64, 64, 4, 3)],
        128: [Tile(128, 64, 8, 3), Tile(64, 64, 4, 3), Tile(128, 128, 8, 2)],
        256: [Tile(64, 16, 8, 2), Tile(32, 32, 8, 2)],
    },
    "backward_queries": {
        64: [Tile(64, 64, 8, 2), Tile(128, 64, 8, 2), Tile(64, 64, 4, 2)],
        128: [Tile(64, 64, 8, 2), Tile(64, 32, 8, 2)],
        256: [Tile(32, 16, 8, 2), Tile(16, 32, 8, 1)],
    },
    "backward_keys": {
        64: [Tile(64, 64, 8, 2), Tile(64, 128, 8, 2), Tile(64, 64, 4, 2)],
        128: [Tile(32, 64, 8, 2), Tile(64, 64, 8, 2)],
        256: [Tile(16, 32, 8, 1), Tile(16, 64, 8, 1)],
    },
}


def tiles_for(kernel: str, capability: int, width: int, size: int, itemsize: int, shared: int) -> list[Tile]:
    """The tiles to choose from, the one that ships first, none larger than a block or than a card's shared memory.

    Args:
        kernel: of `KERNELS`.
        capability: of the card, as 80 or 90.
        width: padded head_dim.
        size: of a block.
        itemsize: bytes of a number.
        shared: memory of one program in bytes.

    Raises:
        ValueError: a card too small for any.
    """
    cards = AMPERE if capability < 90 else HOPPER if capability < 100 else BLACKWELL
    table = cards[kernel].get(width, cards[kernel][max(64, width)])
    found = []
    for tile in table:
        if itemsize > 2:
            tile = full_precision_tile(PASSES[kernel], width)
            # lists take registers of their own
            tile = tile._replace(num_stages=1) if kernel == "forward" and width <= 64 else tile
        tile = tile._replace(block_m=min(size, tile.block_m), block_n=min(size, tile.block_n))
        while shared_bytes(kernel, tile, width, itemsize) > shared and tile != _smaller(tile):
            tile = _smaller(tile)
        if shared_bytes(kernel, tile, width, itemsize) <= shared and tile not in found:
            found.append(tile)
    if not found:
        raise ValueError(f"no tile of head_dim {width} fits {shared} bytes of shared memory: use attention=sdpa")
    return found


def shared_bytes(kernel: str, tile: Tile, width: int, itemsize: int) -> int:
    """Upper bound of the shared memory of a tile: one side once, the other, twice over, for each stage."""
    sides = {"forward": (1, 2), "backward_queries": (2, 2), "backward_keys": (2, 2)}[kernel]
    kept, walked = (tile.block_n, tile.block_m) if kernel == "backward_keys" else (tile.block_m, tile.block_n)
    products = 2 * tile.block_m * tile.block_n * itemsize
    return (sides[0] * kept + sides[1] * walked * tile.num_stages) * width * itemsize + products


def _smaller(tile: Tile) -> Tile:
    if tile.num_stages > 1:
        return tile._replace(num_stages=tile.num_stages - 1)
    if max(tile.block_m, tile.block_n) > 16:
        larger = "block_m" if tile.block_m >= tile.block_n else "block_n"
        return tile._replace(**{larger: getattr(tile, larger) // 2})
    return tile


def shipped(capability: int) -> list[Variant]:
    """Head sizes of published models in each type, in blocks of 128 tokens."""
    cases = [(dtype, head_dim) for dtype in ("bf16", "fp16", "fp32") for head_dim in (32, 64, 72, 96, 128, 256)]
    found = []
    for dtype, head_dim in cases:
        for name, kernel in KERNELS.items():
            itemsize = 4 if dtype == "fp32" else 2
            tile = tiles_for(name, capability, padded(head_dim), 128, itemsize, SHARED[capability])[0]
            fixed = {"HEAD_DIM": head_dim, "D": padded(head_dim), "SIZE": 128, "UPCAST": False}
            fixed |= {"BLOCK_M": tile.block_m, "BLOCK_N": tile.block_n}
            left = [arg for arg in kernel.arg_names if arg not in fixed]
            types = dict.fromkeys(left, "i32") | {arg: f"*{dtype}" for arg in left if arg.startswith("p_")}
            types |= {"scale_log2": "fp32", "p_lse": "*fp32", "p_tokens": "*i32", "p_first": "*i32"}
            types |= {arg: "*fp32" for arg in left if arg in ("p_delta", "p_dlse")}
            types |= {arg: "*i32" for arg in left if arg in ("p_keys", "p_queries")}
            aligned = tuple(arg for arg in left if arg.startswith(("p_", "s_q", "s_k", "s_v", "s_o")))
            title = f"{kernel.__name__} {dtype} D={head_dim} {tile.block_m}x{tile.block_n}"
            found.append(Variant(title, kernel, types, fixed, aligned, tile.num_warps, tile.num_stages))
    return found


def _output(q: Tensor, complete: bool) -> Tensor:
    """(B, heads, N, head_dim), with heads side by side in memory, as the projection behind attention reads them."""
    batch, heads, length, head_dim = q.shape
    make = torch.empty if complete else torch.zeros
    return make(batch, length, heads, head_dim, dtype=q.dtype, device=q.device).transpose(1, 2)


def _logs(q: Tensor, complete: bool) -> Tensor:
    dtype = torch.promote_types(q.dtype, torch.float32)
    if complete:
        return torch.empty(q.shape[:3], dtype=dtype, device=q.device)
    return torch.full(q.shape[:3], float("-inf"), dtype=dtype, device=q.device)


@block_sparse_attention.register_fake
def _(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _output(q, True), _logs(q, True)


@block_sparse_gradient.register_fake
def _(grad: Tensor, grad_lse: Tensor, q: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _output(q, True), _output(q, True), _output(q, True)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], *output, *inputs[3:8])
    ctx.settings = inputs[8:]


def _backward(ctx: Any, grad: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, *lists = ctx.saved_tensors
    # as the output lies: whoever gives the gradient may have another order
    grad = grad.transpose(1, 2).contiguous().transpose(1, 2)
    gradients = block_sparse_gradient(grad, grad_lse.contiguous(), q, k, v, out, lse, *lists, *ctx.settings)
    return *gradients, *[None] * 7


block_sparse_attention.register_autograd(_backward, setup_context=_remember)

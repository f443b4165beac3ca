"""Which tile a FlashAttention kernel works on: by card, head_dim, dtype and mask, and within shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from videogen.kernels._flash_forward import FULL_MASK, NO_MASK
from videogen.kernels._triton import padded

#: the forward kernel, and the two of the backward: gradients of queries, and of keys and values
Pass = Literal["forward", "queries", "keys"]

#: most rows of a tile that holds several groups, of up to 16 tokens or of more; and its bytes, of which four are kept
PACKED_ROWS, PACKED_BYTES = (32, 64), 16_384


class Tile(NamedTuple):
    """Queries and keys of one step, and how many warps and pipeline stages work on it."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


# by padded head_dim, then without a mask, with one of keys, with one of pairs or tokens on two axes: large tiles that
# ptxas compiles for 16 bits without spilling, read from its report and not timed but for those of Hopper; at head_dim
# 256 a second stage is what frees registers, since loads ahead go to shared memory and don't pass through them
AMPERE: Mapping[Pass, Mapping[int, tuple[Tile, Tile, Tile]]] = {
    "forward": {
        64: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 3), Tile(128, 64, 8, 3)),
        128: (Tile(128, 32, 8, 2), Tile(128, 32, 8, 2), Tile(128, 16, 8, 2)),
        256: (Tile(32, 32, 8, 2), Tile(32, 32, 8, 2), Tile(32, 16, 8, 2)),
    },
    "queries": {
        64: (Tile(64, 32, 8, 2), Tile(64, 32, 8, 2), Tile(64, 32, 8, 2)),
        128: (Tile(32, 32, 4, 2), Tile(32, 32, 8, 2), Tile(32, 16, 8, 1)),
        256: (Tile(16, 32, 8, 2), Tile(16, 16, 8, 2), Tile(16, 16, 8, 2)),
    },
    "keys": {
        64: (Tile(32, 64, 8, 2), Tile(32, 64, 8, 2), Tile(32, 32, 4, 2)),
        128: (Tile(32, 32, 8, 1), Tile(32, 32, 8, 1), Tile(16, 32, 8, 1)),
        256: (Tile(16, 16, 8, 2), Tile(16, 16, 8, 2), Tile(16, 16, 8, 2)),
    },
}
# without a mask and up to a head_dim of 128: of what spills nothing, the fastest to 2 % by an H100's clock, in a sweep
# on two sequences of 8,192 tokens with 24 heads (benchmarks/results/tiles_cuda.md); the others follow it as far as
# nothing spills, read from ptxas's report and not timed
HOPPER: Mapping[Pass, Mapping[int, tuple[Tile, Tile, Tile]]] = {
    "forward": {
        64: (Tile(128, 64, 4, 3), Tile(128, 64, 4, 3), Tile(64, 64, 4, 3)),
        128: (Tile(128, 128, 8, 3), Tile(128, 64, 8, 3), Tile(128, 32, 8, 2)),
        256: (Tile(64, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 32, 8, 2)),
    },
    "queries": {
        64: (Tile(128, 64, 4, 3), Tile(64, 64, 4, 3), Tile(64, 64, 4, 3)),
        128: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 3), Tile(64, 32, 4, 3)),
        256: (Tile(64, 32, 8, 2), Tile(64, 16, 8, 2), Tile(64, 16, 8, 2)),
    },
    "keys": {
        64: (Tile(32, 64, 4, 3), Tile(32, 64, 4, 3), Tile(32, 64, 4, 3)),
        128: (Tile(32, 64, 4, 3), Tile(32, 64, 8, 3), Tile(32, 64, 8, 3)),
        256: (Tile(32, 64, 8, 2), Tile(16, 64, 8, 2), Tile(16, 64, 8, 2)),
    },
}
# Blackwell's are not timed
BLACKWELL: Mapping[Pass, Mapping[int, tuple[Tile, Tile, Tile]]] = {
    "forward": {
        32: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 3), Tile(128, 64, 8, 3)),
        64: (Tile(128, 128, 8, 3), Tile(128, 64, 8, 3), Tile(128, 64, 8, 3)),
        128: (Tile(128, 64, 8, 3), Tile(128, 64, 8, 3), Tile(64, 32, 8, 2)),
        256: (Tile(64, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 32, 8, 2)),
    },
    "queries": {
        64: (Tile(128, 64, 8, 2), Tile(128, 64, 8, 2), Tile(64, 64, 8, 2)),
        128: (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 32, 8, 2)),
        256: (Tile(64, 32, 8, 2), Tile(64, 16, 8, 2), Tile(64, 16, 8, 2)),
    },
    "keys": {
        64: (Tile(64, 128, 8, 2), Tile(64, 128, 8, 2), Tile(64, 64, 8, 2)),
        128: (Tile(32, 128, 8, 2), Tile(32, 64, 8, 2), Tile(32, 64, 8, 2)),
        256: (Tile(32, 64, 8, 2), Tile(16, 64, 8, 2), Tile(16, 64, 8, 2)),
    },
}


def packing(queries: int, keys: int, groups: int, mask_kind: int, rows: int) -> int:
    """How many groups share a tile of `rows`: 1 where fewer than two fit, or where their mask is one of pairs."""
    if groups == 1 or mask_kind == FULL_MASK:
        return 1
    return max(1, rows // (1 << max(0, max(queries, keys) - 1).bit_length()))


def packed_rows(kernel: Pass, width: int, itemsize: int, capability: int, length: int) -> int:
    """Rows of a tile that holds several groups of `length` tokens and a padded head_dim `width`."""
    if itemsize > 2:
        return 16
    # two sums and two matrices of scores at once are too many for registers with Ampere's products
    few = length <= 16 or (kernel == "keys" and _table(capability) is AMPERE)
    return max(16, min(PACKED_ROWS[0 if few else 1], PACKED_BYTES // (width * itemsize)))


def packed_tile(kernel: Pass, width: int, itemsize: int, mask_kind: int, capability: int, rows: int) -> Tile:
    """A tile that groups share: one step, so that there is nothing to load ahead of.

    Of groups of 16 tokens an H100 took half the time of 64 rows by 8 warps, forward and for the gradients of queries,
    at a head_dim of 72 (benchmarks/results/sweeps_cuda.md). Gradients of keys, other head_dims, longer groups and other
    cards follow as far as nothing spills, and aren't timed.
    """
    # gradients of keys hold two sums of that width, and a mask beside them
    narrow = itemsize <= 2 and width <= 128 and not (kernel == "keys" and width > 64 and mask_kind != NO_MASK)
    if narrow and rows <= 32:
        return Tile(rows, rows, 2, 1)
    return Tile(rows, rows, 8 if _table(capability) is AMPERE or (width > 64 and not narrow) else 4, 1)


def choose_tile(
    kernel: Pass, width: int, itemsize: int, mask_kind: int, *, capability: int, shared: int, rows: int = 0
) -> Tile:
    """The tile for a padded head_dim `width`, made smaller until its buffers fit `shared` bytes of shared memory.

    Args:
        kernel: of the three.
        width: padded head_dim.
        itemsize: bytes of a number.
        mask_kind: the kernels' MASK, of pairs for tokens on two axes too.
        capability: of the card, as 80 or 90.
        shared: bytes of shared memory.
        rows: of a tile that several groups share; 0 where they don't.

    Raises:
        ValueError: no tile fits.
    """
    tiles = _table(capability)[kernel]
    tile = tiles.get(width, tiles[max(64, width)])[mask_kind]
    if rows:
        tile = packed_tile(kernel, width, itemsize, mask_kind, capability, rows)
    elif itemsize >= 4:
        tile = full_precision_tile(kernel, width)
    while shared_bytes(kernel, tile, width, itemsize, mask_kind) > shared:
        if tile.num_stages > 1:
            tile = tile._replace(num_stages=tile.num_stages - 1)
        elif rows or max(tile.block_m, tile.block_n) <= 16:
            raise ValueError(f"no tile of head_dim {width} fits {shared} bytes of shared memory: use attention=sdpa")
        elif tile.block_n > 16:
            tile = tile._replace(block_n=tile.block_n // 2)
        else:
            tile = tile._replace(block_m=tile.block_m // 2)
    return tile


def full_precision_tile(kernel: Pass, width: int) -> Tile:
    """The tile for float32, which has no tensor cores at full precision: operands and products all sit in registers.

    Even the smallest spills above a padded head_dim of 64 in the backward, and above 128 in the forward.
    """
    if width <= 32:
        return Tile(64 if kernel == "forward" else 32, 32, 8, 2)
    return Tile(32 if kernel == "forward" and width <= 64 else 16, 16, 8, 2)


def _table(capability: int) -> Mapping[Pass, Mapping[int, tuple[Tile, Tile, Tile]]]:
    # 120 are Blackwell's small cards, whose products and shared memory are Ampere's
    return {9: HOPPER, 10: BLACKWELL}.get(capability // 10, AMPERE)


def fitted(tile: Tile, queries: int, keys: int) -> Tile:
    """No larger than the sequences need."""
    return tile._replace(
        block_m=min(tile.block_m, padded(max(1, queries))), block_n=min(tile.block_n, padded(max(1, keys)))
    )


def shared_bytes(kernel: Pass, tile: Tile, width: int, itemsize: int, mask_kind: int) -> int:
    """Upper bound of the shared memory of a tile: what is kept once, and what is loaded a stage.

    Forward: queries, and keys and values a stage. Gradients of queries: queries and the output's gradient, and keys
    and values a stage. Gradients of keys: keys and values, and queries and the output's gradient a stage. A full mask
    a stage, where stages overlap.
    """
    kept, moved = (tile.block_n, tile.block_m) if kernel == "keys" else (tile.block_m, tile.block_n)
    staged = 2 * moved * width * itemsize + (kept * moved if mask_kind == FULL_MASK and tile.num_stages > 1 else 0)
    return (1 if kernel == "forward" else 2) * kept * width * itemsize + tile.num_stages * staged

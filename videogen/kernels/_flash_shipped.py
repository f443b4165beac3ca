"""The forms in which the FlashAttention kernels ship: each layout at the head_dims of published models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from videogen.kernels._flash_backward import flash_backward_keys, flash_backward_queries
from videogen.kernels._flash_forward import FULL_MASK, KEY_MASK, NO_MASK, flash_forward
from videogen.kernels._flash_tiles import Pass, choose_tile, packed_rows, packing
from videogen.kernels._triton import SHARED, padded
from videogen.kernels._variants import Variant

KERNELS: dict[Pass, Any] = {"forward": flash_forward, "queries": flash_backward_queries, "keys": flash_backward_keys}

#: layout -> kind of mask, tokens of a group that shares a tile, segments, tokens on two axes, head_dims in bfloat16
LAYOUTS = {
    "dense": (NO_MASK, 0, False, False, (32, 64, 72, 96, 128, 256)),
    "key mask": (KEY_MASK, 0, False, False, (64, 128)),
    "mask of pairs": (FULL_MASK, 0, False, False, (64, 128)),
    "segments": (NO_MASK, 0, True, False, (64, 128)),
    "runs of tokens": (NO_MASK, 0, False, True, (64, 128)),
    "groups of 16": (NO_MASK, 16, False, False, (64, 72, 128)),
    "groups of 16, key mask": (KEY_MASK, 16, False, False, (64, 128)),
    "groups of 32": (NO_MASK, 32, False, False, (64, 128)),
}
#: the other types differ from bfloat16 in the instructions of products, float32 in its tiles too: one layout shows it
DTYPES = {"bf16": (2, tuple(LAYOUTS)), "fp16": (2, ("dense",)), "fp32": (4, ("dense",))}


def shipped(capability: int) -> list[Variant]:
    """What is launched on cards of this compute capability, 80, 90 or 100, for well aligned tensors."""
    return [variant for dtype in DTYPES for variant in _variants(capability, dtype)]


def _variants(capability: int, dtype: str) -> Iterator[Variant]:
    itemsize, layouts = DTYPES[dtype]
    for kernel, function in KERNELS.items():
        for layout in layouts:
            mask_kind, short, ragged, runs, head_dims = LAYOUTS[layout]
            for head_dim in head_dims:
                width, rows, pack = padded(head_dim), 0, 1
                if short:
                    rows = packed_rows(kernel, width, itemsize, capability, short)
                    pack = packing(short, short, 2, mask_kind, rows)
                    rows = 0 if pack == 1 else rows
                shared = SHARED[capability]
                alike = FULL_MASK if runs else mask_kind
                tile = choose_tile(kernel, width, itemsize, alike, capability=capability, shared=shared, rows=rows)
                constants = {
                    "HEAD_DIM": head_dim,
                    "D": width,
                    "BLOCK_M": tile.block_m,
                    "BLOCK_N": tile.block_n,
                    "PACK": pack,
                    "MASK": mask_kind,
                    "RAGGED": ragged,
                    "UPCAST": False,
                }
                if not runs:
                    constants |= {"inner_queries": 1, "inner_keys": 1}
                if mask_kind != NO_MASK:
                    constants |= {"s_ml": 1, "s_mi": 1}
                types = {name: _type(name, dtype, mask_kind, ragged) for name in function.arg_names}
                yield Variant(
                    title=f"{function.__name__} {dtype} {head_dim} {layout}",
                    kernel=function,
                    types={name: kind for name, kind in types.items() if name not in constants},
                    constants=constants,
                    aligned=tuple(name for name in types if name not in constants and _aligned(name, mask_kind)),
                    num_warps=tile.num_warps,
                    num_stages=tile.num_stages,
                )


def _type(name: str, dtype: str, mask_kind: int, ragged: bool) -> str:
    if name in ("p_lse", "p_delta"):
        return "*fp32"
    if name == "p_mask":
        return f"*{dtype}" if mask_kind == NO_MASK else "*u8"
    if name in ("p_first_q", "p_first_k"):
        return "*i32" if ragged else f"*{dtype}"
    if name == "scale_log2":
        return "fp32"
    return f"*{dtype}" if name.startswith("p_") else "i32"


def _aligned(name: str, mask_kind: int) -> bool:
    # of a mask that isn't there all strides are zero
    if name.startswith("s_m"):
        return mask_kind == NO_MASK
    return name.startswith(("p_", "s_")) and not name.startswith("s_e")

"""How the fused operations are launched: on which device, with how many warps, in which precision."""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from videogen.kernels._triton import INTERPRETED

DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
DEVICES = frozenset({"cpu", "cuda"}) if INTERPRETED else frozenset({"cuda"})


def wide(dtype: torch.dtype) -> tl.dtype:
    """What is computed in: float32, or float64 for float64."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums over many tokens are kept in."""
    return torch.promote_types(dtype, torch.float32)


def power(size: int) -> int:
    """The least power of two that isn't below `size`."""
    found: int = triton.next_power_of_2(size)
    return found


def warps(elements: int) -> int:
    """Warps for a tile: 16 elements a thread, which leaves registers for a dozen such tiles."""
    return min(16, max(1, power(elements) // 512))


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def programs(device: torch.device, rows: int) -> int:
    """Programs that walk over `rows` rows and each leave one partial sum: a few for every multiprocessor."""
    return max(1, min(rows, 4 * _processors(device)))


@functools.lru_cache
def _processors(device: torch.device) -> int:
    # the interpreter runs programs one after the other: two, so that tests see more than one
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1

"""A rotation by frame, row and column, where rows and columns are closer together in larger frames."""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.dit.rotary import Rotary, rotary

Grid = tuple[int, int, int]


def thirds(grid: Grid, head_dim: int, scale: float, sides: Float[Tensor, " b"] | None, device: torch.device) -> Rotary:
    """A third of a head's channels turns with each axis, neighbours in pairs (https://arxiv.org/abs/2104.09864).

    Args:
        grid: tokens along (t, y, x).
        head_dim: a multiple of 6.
        scale: divides rows and columns.
        sides: of each clip's frames, as multiples of the trained one, which divide rows and columns too; None for none.
        device: of the table, which is one for all clips if their sides are equal.
    """
    if torch.compiler.is_compiling():
        # a graph must neither stop for the numbers of a tensor nor share its tensors
        divisors = torch.full((1,), scale, dtype=torch.float64) if sides is None else sides * scale
        return _table(grid, head_dim, divisors, device)
    # a model that is looked through on the meta device knows no numbers
    told = [scale] if sides is None or sides.is_meta else [scale * side for side in sides.tolist()]
    return _cached_table(grid, head_dim, tuple(told[:1] if len(set(told)) == 1 else told), device)


def _table(grid: Grid, head_dim: int, divisors: Float[Tensor, " b"], device: torch.device) -> Rotary:
    # the table outlives the call: made under inference_mode, autograd would refuse it in a later training step
    with torch.inference_mode(False), torch.no_grad():
        channels, angles = head_dim // 3, []
        frequency = 10000.0 ** (-torch.arange(0, channels, 2, dtype=divisors.dtype, device=divisors.device) / channels)
        for axis, length in enumerate(grid):
            places = torch.arange(length, dtype=divisors.dtype, device=divisors.device)[None]
            places = places.expand(len(divisors), -1) if axis == 0 else places / divisors[:, None]
            shape = [-1, 1, 1, 1, channels // 2]
            shape[axis + 1] = length
            angle = (places[..., None] * frequency).view(shape)
            angles.append(angle.expand(len(divisors), *grid, -1).flatten(1, 3)[:, :, None])
        return rotary(angles, "interleaved", device)


@functools.lru_cache(maxsize=4)
def _cached_table(grid: Grid, head_dim: int, divisors: tuple[float, ...], device: torch.device) -> Rotary:
    # float64 on the host, as mps has none
    found = _table(grid, head_dim, torch.tensor(divisors, dtype=torch.float64, device="cpu"), device)
    return found if len(divisors) > 1 else Rotary(found.cos[0], found.sin[0], found.runs)

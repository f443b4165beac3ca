"""Sin-cos codes of positions and timesteps."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def sincos(positions: Float[Tensor, "*shape"], channels: int, max_period: float = 10000.0) -> Float[Tensor, "*shape c"]:
    """Cosines, then sines of each position at geometric frequencies, https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
        channels: width of the result, even.
        max_period: the slowest frequency is just above 1 / max_period.
    """
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=positions.device)
    angles = positions.float()[..., None] * torch.exp(-math.log(max_period) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def centred_code(
    grid: tuple[int, int, int], dim: int, device: torch.device, valid: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b_or_1 n dim"]:
    """Fixed sin-cos code of where a token stands in its clip: rows and columns from the centre, time from the start.

    In a padded batch each clip is measured on its own valid tokens, so that padding changes nothing. Time isn't
    centred because the first latent frame of a causal VAE is unlike the others, whatever the length of the clip.
    """
    space = dim // 6 * 2
    parts = []
    for axis, channels in enumerate((dim - 2 * space, space, space)):
        index = torch.arange(grid[axis], dtype=torch.float32, device=device)[None]
        if valid is None:
            used = torch.ones_like(index, dtype=torch.bool)
        else:
            used = valid.view(-1, *grid).any(dim=tuple({1, 2, 3} - {axis + 1}))
        first = torch.where(used, index, float(grid[axis])).amin(1, keepdim=True)
        origin = first if axis == 0 else first + (used.sum(1, keepdim=True) - 1) / 2
        code = sincos(index - origin, channels)
        shape = [len(code), 1, 1, 1, channels]
        shape[axis + 1] = grid[axis]
        parts.append(code.view(shape).expand(-1, *grid, -1))
    return torch.cat(parts, dim=-1).flatten(1, 3)

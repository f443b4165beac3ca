"""Sin-cos codes of positions and timesteps."""

from __future__ import annotations

import math

import torch
from einops import repeat
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


def sines_first(
    positions: Float[Tensor, "*shape"], channels: int, max_period: float = 10000.0
) -> Float[Tensor, "*shape c"]:
    """Sines, then cosines, as the codes of PixArt, Latte and Open-Sora have them; float32, computed in float64.

    The frequencies are max_period ** (-2 i / channels), as in `sincos`, whose order of the halves is the other one.
    """
    # the largest angle is a position itself, in which float32 has no digits left for a tolerance of 1e-6; mps has no
    # float64
    exact = torch.float32 if positions.device.type == "mps" else torch.float64
    half = channels // 2
    frequencies = max_period ** (-torch.arange(half, dtype=exact, device=positions.device) / half)
    angles = positions.to(exact)[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


def clip_axis(
    grid: tuple[int, int, int], axis: int, device: torch.device, valid: Bool[Tensor, "b n"] | None = None
) -> tuple[Float[Tensor, "b_or_1 places"], Float[Tensor, "b_or_1 1"]]:
    """The places along an axis of the grid, counted from a clip's own first one, and its own length.

    In a padded batch each clip is measured on its own valid tokens, so that padding changes nothing.
    """
    index = torch.arange(grid[axis], dtype=torch.float32, device=device)[None]
    if valid is None:
        return index, torch.full((1, 1), float(grid[axis]), device=device)
    used = valid.view(-1, *grid).any(dim=tuple({1, 2, 3} - {axis + 1}))
    first = torch.where(used, index, float(grid[axis])).amin(1, keepdim=True)
    return index - first, used.sum(1, keepdim=True).float()


def frame_code(
    grid: tuple[int, int, int], divisor: float, like: Float[Tensor, "b n dim"], valid: Bool[Tensor, "b n"] | None
) -> Float[Tensor, "b_or_1 n dim"]:
    """A fixed sin-cos code of each token's frame, counted from its clip's first one, divided; of the tokens' dtype."""
    frames, _ = clip_axis(grid, 0, like.device, valid)
    code = sines_first(frames / divisor, like.shape[-1]).to(like.dtype)
    return repeat(code, "b t d -> b (t s) d", s=grid[1] * grid[2])


def centred_code(
    grid: tuple[int, int, int], dim: int, device: torch.device, valid: Bool[Tensor, "b n"] | None = None
) -> Float[Tensor, "b_or_1 n dim"]:
    """Fixed sin-cos code of where a token stands in its clip: rows and columns from the centre, time from the start.

    Time isn't centred because the first latent frame of a causal VAE is unlike the others, whatever the length of the
    clip.
    """
    space = dim // 6 * 2
    parts = []
    for axis, channels in enumerate((dim - 2 * space, space, space)):
        places, length = clip_axis(grid, axis, device, valid)
        code = sincos(places if axis == 0 else places - (length - 1) / 2, channels)
        shape = [len(code), 1, 1, 1, channels]
        shape[axis + 1] = grid[axis]
        parts.append(code.view(shape).expand(-1, *grid, -1))
    return torch.cat(parts, dim=-1).flatten(1, 3)

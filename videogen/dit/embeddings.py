"""From latents, timesteps and positions to what the transformer works on."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from videogen.dit.layers import linear

Size = tuple[int, int, int]


def token_grid(size: Size, patch: Size) -> Size:
    """The number of tokens along (T, H, W).

    Raises:
        ValueError: a side is no multiple of its patch; the nearest that are get named.
    """
    for axis, length, step in zip(("frames", "rows", "columns"), size, patch, strict=True):
        if length % step:
            below, above = length // step * step, (length // step + 1) * step
            use = f"{below} or {above}" if below else f"{above}"
            raise ValueError(f"{length} latent {axis} do not fit a patch of {step}: use {use}")
    return size[0] // patch[0], size[1] // patch[1], size[2] // patch[2]


def patchify(latents: Shaped[Tensor, "b c t h w"], patch: Size) -> Shaped[Tensor, "b n c_patch"]:
    """(B, C, T, H, W) -> (B, N, C * patch volume), tokens with time outermost and width innermost."""
    pt, ph, pw = patch
    return rearrange(latents, "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)


def unpatchify(tokens: Shaped[Tensor, "b n c_patch"], grid: Size, patch: Size) -> Shaped[Tensor, "b c t h w"]:
    """The inverse of `patchify` for a (T, H, W) grid of tokens."""
    (t, h, w), (pt, ph, pw) = grid, patch
    pattern = "b (t h w) (c pt ph pw) -> b c (t pt) (h ph) (w pw)"
    return rearrange(tokens, pattern, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)


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


def absolute_positions(
    grid: Size, dim: int, device: torch.device, valid: Bool[Tensor, "b n"] | None = None
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


class TimestepEmbedding(nn.Module):
    """Sin-cos features of the timestep and a two-layer MLP, as in DiT, https://arxiv.org/abs/2212.09748, section 3.2.

    Args:
        scale: what a timestep is multiplied with first: 1000 for times in [0, 1], 1 for steps of 0 … 999.
    """

    def __init__(self, dim: int, scale: float, features: int = 256) -> None:
        super().__init__()
        self.scale, self.features = scale, features
        self.mlp = nn.Sequential(linear(features, dim), nn.SiLU(), linear(dim, dim))

    def forward(self, timestep: Shaped[Tensor, "b f"], dtype: torch.dtype) -> Float[Tensor, "b f dim"]:
        """(B, F) -> (B, F, D) in `dtype`; the angles are computed in float32."""
        embedded: Tensor = self.mlp(sincos(timestep.float() * self.scale, self.features).to(dtype))
        return embedded

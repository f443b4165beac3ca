"""From latents, timesteps and positions to what the transformer works on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from videogen.dit.codes import sincos
from videogen.dit.initial import linear

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


def filled_up(latents: Shaped[Tensor, "b c t h w"], patch: Size) -> Shaped[Tensor, "b c t_ h_ w_"]:
    """The latents with zeros behind each side, up to the next multiple of its patch."""
    missing = [-length % step for length, step in zip(latents.shape[2:], patch, strict=True)]
    return F.pad(latents, [amount for axis in reversed(missing) for amount in (0, axis)])


def patchify(latents: Shaped[Tensor, "b c t h w"], patch: Size) -> Shaped[Tensor, "b n c_patch"]:
    """(B, C, T, H, W) -> (B, N, C * patch volume), tokens with time outermost and width innermost."""
    pt, ph, pw = patch
    return rearrange(latents, "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)


def unpatchify(tokens: Shaped[Tensor, "b n c_patch"], grid: Size, patch: Size) -> Shaped[Tensor, "b c t h w"]:
    """The inverse of `patchify` for a (T, H, W) grid of tokens."""
    (t, h, w), (pt, ph, pw) = grid, patch
    pattern = "b (t h w) (c pt ph pw) -> b c (t pt) (h ph) (w pw)"
    return rearrange(tokens, pattern, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)


class TimestepEmbedding(nn.Module):
    """Sin-cos features of the timestep and a two-layer MLP, as in DiT, https://arxiv.org/abs/2212.09748, section 3.2.

    Args:
        scale: what a timestep is multiplied with first: 1000 for times in [0, 1], 1 for steps of 0 … 999.
        offset: what is added then.
    """

    def __init__(self, dim: int, scale: float, features: int = 256, offset: float = 0.0) -> None:
        super().__init__()
        self.scale, self.offset, self.features = scale, offset, features
        self.mlp = nn.Sequential(linear(features, dim), nn.SiLU(), linear(dim, dim))

    def forward(self, timestep: Shaped[Tensor, "b f"], dtype: torch.dtype) -> Float[Tensor, "b f dim"]:
        """(B, F) -> (B, F, D) in `dtype`; the angles are computed in float32, after scale and offset."""
        embedded: Tensor = self.mlp(sincos(self.scaled(timestep), self.features).to(dtype))
        return embedded

    def scaled(self, timestep: Tensor) -> Tensor:
        """Timesteps as the model counts them, in float32 or float64."""
        exact = timestep if timestep.dtype == torch.float64 else timestep.float()
        return exact * self.scale + self.offset

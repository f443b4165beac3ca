"""What CogVideoX's autoencoder is built of: layers on one batch of a clip, whose first batch alone is odd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._layers import ResBlock, SpaceUpsample
from videogen.vae._levels import GroupNorm, SpaceDownsample
from videogen.vae._streaming import StreamCache


class SpatialNorm(nn.Module):
    """Group norm, then scaled and shifted at each position by linear maps of the latents there (MoVQ, 2209.09002)."""

    def __init__(self, channels: int, latent: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, groups)
        self.scale, self.shift = nn.Conv3d(latent, channels, 1), nn.Conv3d(latent, channels, 1)
        # at first near a plain group norm: a scale around 0 would silence a deep decoder
        assert self.scale.bias is not None
        nn.init.ones_(self.scale.bias)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        # maps of single positions: the same before they are spread as after, and far less work
        out: Tensor = self.norm(x) * spread(self.scale(latents), x) + spread(self.shift(latents), x)
        return out


class SpatialResBlock(ResBlock):
    """norm, SiLU, convolution, twice, plus the input; the norms see the latents."""

    def forward(self, x: Tensor, cache: StreamCache | None = None, latents: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x, latents)), cache)
        h = self.conv2(F.silu(self.norm2(h, latents)), cache)
        skip: Tensor = x if self.shortcut is None else self.shortcut(x, cache)
        out: Tensor = skip + h
        return out


class Downsample(SpaceDownsample):
    """Half the height and width by a convolution of each frame; before it, pairs of frames are averaged if asked."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__(channels)
        self.time = time

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        if self.time:
            # an odd number starts a clip, and the clip's first frame stands alone
            alone = x.shape[2] % 2
            x = torch.cat([x[:, :, :alone], (x[:, :, alone::2] + x[:, :, alone + 1 :: 2]) / 2], dim=2)
        return super().forward(x, cache)


class Upsample(SpaceUpsample):
    """Twice the height and width (nearest), and the frames if asked, then a convolution of each frame."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__(channels)
        self.time = time

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        return super().forward(double_time(x) if self.time else x, cache)


def double_time(x: Tensor) -> Tensor:
    """Each frame twice, but a clip's first, which an odd number starts with."""
    alone = x.shape[2] % 2
    return torch.cat([x[:, :, :alone], x[:, :, alone:].repeat_interleave(2, dim=2)], dim=2)


def spread(maps: Tensor, x: Tensor) -> Tensor:
    """Each position of the latents' grid over those of x that it stands for."""
    while maps.shape[2] < x.shape[2]:
        maps = double_time(maps)
    return F.interpolate(maps, size=x.shape[2:], mode="nearest")

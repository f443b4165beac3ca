"""What CogVideoX's autoencoder is built of: layers on one batch of a clip, whose first batch alone is odd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._convolution import Conv3d
from videogen.vae._layers import ResBlock, SpaceUpsample
from videogen.vae._lean import lean, plus, silu
from videogen.vae._levels import GroupNorm, SpaceDownsample
from videogen.vae._streaming import StreamCache


class SpatialNorm(nn.Module):
    """Group norm, then scaled and shifted at each position by linear maps of the latents there (MoVQ, 2209.09002)."""

    def __init__(self, channels: int, latent: int, groups: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, groups)
        self.scale, self.shift = Conv3d(latent, channels, 1), Conv3d(latent, channels, 1)
        # at first near a plain group norm: a scale around 0 would silence a deep decoder
        assert self.scale.bias is not None
        nn.init.ones_(self.scale.bias)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        # maps of single positions: the same before they are spread as after, and far less work
        scale, shift = self.scale(latents), self.shift(latents)
        h: Tensor = self.norm(x)
        if not lean(x):
            return h * spread(scale, x) + spread(shift, x)
        # a clip's first frame, which an odd number starts with, and the others
        alone = latents.shape[2] % 2
        for frames in (slice(0, alone), slice(alone, None)):
            if latents[:, :, frames].shape[2]:
                _cells(h[:, :, frames], latents[:, :, frames]).mul_(_single(scale[:, :, frames]))
                _cells(h[:, :, frames], latents[:, :, frames]).add_(_single(shift[:, :, frames]))
        return h


class SpatialResBlock(ResBlock):
    """norm, SiLU, convolution, twice, plus the input; the norms see the latents."""

    def forward(self, x: Tensor, cache: StreamCache | None = None, latents: Tensor | None = None) -> Tensor:
        h = silu(self.norm1(x, latents))
        h = self.conv1(h, cache)
        h = silu(self.norm2(h, latents))
        h = self.conv2(h, cache)
        return plus(h, x if self.shortcut is None else self.shortcut(x, cache))


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
        # equal frames have equal convolutions, so these come before the doubling
        h = super().forward(x, cache)
        return double_time(h) if self.time else h


def double_time(x: Tensor) -> Tensor:
    """Each frame twice, but a clip's first, which an odd number starts with."""
    alone = x.shape[2] % 2
    return torch.cat([x[:, :, :alone], x[:, :, alone:].repeat_interleave(2, dim=2)], dim=2)


def spread(maps: Tensor, x: Tensor) -> Tensor:
    """Each position of the latents' grid over those of x that it stands for."""
    while maps.shape[2] < x.shape[2]:
        maps = double_time(maps)
    return F.interpolate(maps, size=x.shape[2:], mode="nearest")


def _cells(x: Tensor, latents: Tensor) -> Tensor:
    """A view (B, C, t, dt, h, dy, w, dx) of x: the positions that each one of the latents' grid stands for."""
    for axis, size in enumerate(latents.shape[2:]):
        x = x.unflatten(2 + 2 * axis, (size, -1))
    return x


def _single(maps: Tensor) -> Tensor:
    """A view of maps on the latents' grid that broadcasts over `_cells`."""
    return maps[:, :, :, None, :, None, :, None]

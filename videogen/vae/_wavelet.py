"""The two halves of WF-VAE: convolutions with wavelets beside them, from Haar coefficients to latents and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from videogen.vae._haar import Haar2D, Haar3D
from videogen.vae._layers import (
    CausalConv3d,
    ChannelNorm,
    FrameAttention,
    FrameConv,
    Interpolation,
    ResBlock,
    SpaceTimeUpsample,
    SpaceUpsample,
    Stack,
    pad_corner,
)
from videogen.vae._lean import silu
from videogen.vae._streaming import StreamCache

#: channels of a video, and of each band
RGB = 3


class Encoder(nn.Module):
    """Haar coefficients (B, 24, 1 + 2k, H/2, W/2) -> moments (B, 2C, 1 + k, H/8, W/8); 1 + 4k -> 1 + k if in time.

    The low band of each wavelet level joins the convolutions below it: the paper's energy flow.

    Args:
        flow: channels of the low-frequency path.
        gain: of the 3D Haar coefficients.
        in_time: the first level halves time too.
    """

    def __init__(
        self, latent: int, base: int, flow: int, blocks: int, attention: bool, gain: float, *, in_time: bool
    ) -> None:
        super().__init__()
        self.haar1, self.haar2 = _first_haar(gain, in_time), Haar3D(gain)
        self.flow1 = FrameConv(RGB * self.haar1.bands, flow, 3, padding=1)
        self.flow2 = FrameConv(RGB * self.haar2.bands, flow, 3, padding=1)
        self.level1 = Stack(
            FrameConv(RGB * Haar3D.bands, base, 3, padding=1),
            *(ResBlock(base, base, frames_alone=True) for _ in range(blocks)),
        )
        self.down1 = CausalConv3d(base, base, 3, stride=2, padding=0) if in_time else FrameConv(base, base, 3, stride=2)
        self.level2 = Stack(
            FrameConv(base + flow, 2 * base, 3, padding=1),
            *(ResBlock(2 * base, 2 * base) for _ in range(blocks)),
        )
        self.down2 = CausalConv3d(2 * base, 2 * base, 3, stride=2, padding=0)
        self.middle = Stack(
            ResBlock(2 * base + flow, 4 * base),
            *((FrameAttention(4 * base),) if attention else ()),
            ResBlock(4 * base, 4 * base),
        )
        self.norm, self.out = ChannelNorm(4 * base), CausalConv3d(4 * base, 2 * latent)

    def forward(self, bands: Tensor, cache: StreamCache | None) -> Tensor:
        low1 = self.haar1(bands[:, :RGB], cache)
        low2 = self.haar2(low1[:, :RGB], cache)
        h = self.down1(pad_corner(self.level1(bands, cache)), cache)
        h = self.level2(torch.cat([h, self.flow1(low1)], dim=1), cache)
        h = self.down2(pad_corner(h), cache)
        h = self.middle(torch.cat([h, self.flow2(low2)], dim=1), cache)
        moments: Tensor = self.out(silu(self.norm(h)), cache)
        return moments


class Decoder(nn.Module):
    """Latents (B, C, 1 + k, H/8, W/8) -> Haar coefficients (B, 24, 1 + 2k, H/2, W/2); 1 + k -> 1 + 4k if in time.

    Each level predicts its wavelet bands; the level below, transformed back, is added to their low band.

    Args:
        flow: channels of the low-frequency paths.
        gain: of the 3D Haar coefficients.
        in_time: the first level, the last one here, doubles time too.
    """

    def __init__(
        self,
        latent: int,
        base: int,
        flow: int,
        blocks: int,
        flow_blocks: int,
        attention: bool,
        interpolation: Interpolation,
        gain: float,
        *,
        in_time: bool,
    ) -> None:
        super().__init__()
        wide = 4 * base
        self.flow = flow
        self.haar1, self.haar2 = _first_haar(gain, in_time), Haar3D(gain)
        self.conv_in = CausalConv3d(latent, wide)
        self.middle = Stack(
            ResBlock(wide, wide), *((FrameAttention(wide),) if attention else ()), ResBlock(wide, wide + flow)
        )
        self.flow2 = _to_bands(flow, flow_blocks, self.haar2.bands)
        self.up2 = Stack(
            *(ResBlock(wide, wide) for _ in range(blocks)),
            SpaceTimeUpsample(wide, interpolation, feeds_another=in_time),
            ResBlock(wide, wide + flow),
        )
        self.flow1 = _to_bands(flow, flow_blocks, self.haar1.bands)
        self.up1 = Stack(
            *(ResBlock(wide if i == 0 else 2 * base, 2 * base) for i in range(blocks)),
            SpaceTimeUpsample(2 * base, interpolation) if in_time else SpaceUpsample(2 * base),
            ResBlock(2 * base, 2 * base),
        )
        self.level1 = Stack(ResBlock(2 * base, base), ResBlock(base, base))
        self.norm, self.out = ChannelNorm(base), FrameConv(base, RGB * Haar3D.bands, 3, padding=1)

    def forward(self, latents: Tensor, first: bool, cache: StreamCache | None) -> Tensor:
        h, flow = self._split(self.middle(self.conv_in(latents, cache), cache))
        bands2 = _own(self.flow2(flow, cache), cache)
        h, flow = self._split(self.up2(h, cache))
        bands1 = _own(self.flow1(flow, cache), cache)
        bands1 = _add_to_low(bands1, self.haar2.inverse(bands2, first))
        h = self.level1(self.up1(h, cache), cache)
        return _add_to_low(self.out(silu(self.norm(h))), self.haar1.inverse(bands1, first))

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The last channels leave for the low-frequency path."""
        return h[:, : -self.flow], h[:, -self.flow :]


def _first_haar(gain: float, in_time: bool) -> Haar2D | Haar3D:
    return Haar3D(gain) if in_time else Haar2D()


def _to_bands(flow: int, blocks: int, bands: int) -> Stack:
    """A low-frequency path of the decoder: the bands of one wavelet level."""
    return Stack(*(ResBlock(flow, flow) for _ in range(blocks)), FrameConv(flow, RGB * bands, 3, padding=1))


def _own(bands: Tensor, cache: StreamCache | None) -> Tensor:
    """A chunk's own frames: the look-ahead is for what interpolates in time, and the way of the bands ends here."""
    return bands if cache is None else bands[:, :, : bands.shape[2] - cache.lookahead]


def _add_to_low(bands: Tensor, low: Tensor) -> Tensor:
    return torch.cat([bands[:, :RGB] + low, bands[:, RGB:]], dim=1)

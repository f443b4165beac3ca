"""WF-VAE: a causal video autoencoder whose low frequencies travel through wavelets past the convolutions.

After "WF-VAE: Enhancing Video VAE by Wavelet-Driven Energy Flow" (arXiv 2411.17459).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
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
from videogen.vae._linear import LinearPath, mean_plus, start_silent
from videogen.vae._streaming import CausalVAE, StreamCache


@VAES.register("wavelet", aliases=("wfvae",))
class WaveletVAE(CausalVAE):
    """Causal VAE on Haar coefficients, 4x8x8 strides, streams exactly (WF-VAE, https://arxiv.org/abs/2411.17459).

    Args:
        latent_channels: channels of the latents.
        base_channels: width at half resolution; doubles and quadruples deeper.
        encoder_flow: channels of the encoder's low-frequency path.
        num_res_blocks: residual blocks a level.
        flow_res_blocks: residual blocks on each low-frequency path of the decoder.
        use_attention: spatial attention among the positions of a latent frame.
        linear_path: a learned linear code of each patch beside the network; small models learn much faster with it.
        time_interpolation: how the decoder doubles frames; "nearest" needs no look-ahead in a stream.
        haar_gain: gain of the 3D Haar coefficients; 1 / (2 sqrt 2) is orthogonal, published weights have 0.3536.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 8,
        base_channels: int = 128,
        encoder_flow: int = 64,
        num_res_blocks: int = 2,
        flow_res_blocks: int = 1,
        use_attention: bool = True,
        linear_path: bool = False,
        time_interpolation: Interpolation = "nearest",
        haar_gain: float = 8**-0.5,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=4,
            spatial_stride=8,
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        self.linear = LinearPath(latent_channels) if linear_path else None
        self.lookahead = 1 if time_interpolation == "trilinear" else 0
        self.haar = Haar3D(haar_gain)
        self.encoder = Encoder(latent_channels, base_channels, encoder_flow, num_res_blocks, use_attention, haar_gain)
        self.decoder = Decoder(
            latent_channels,
            base_channels,
            num_res_blocks,
            flow_res_blocks,
            use_attention,
            time_interpolation,
            haar_gain,
        )

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w)."""
        moments: Tensor = self.encoder(self.haar(video, cache), cache)
        return moments if self.linear is None else mean_plus(moments, self.linear.encode(video, cache))

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W)."""
        first = cache is None or self not in cache
        own = latents
        if cache is not None:
            # the decoder spends the look-ahead, the linear path has no use for it
            own = latents[:, :, : latents.shape[2] - cache.lookahead]
            # a mark that the clip has begun; a slice of the latents would keep them all in memory
            cache[self] = latents.new_empty(0)
        video = self.haar.inverse(self.decoder(latents, first, cache), first)
        return video if self.linear is None else video + self.linear.decode(own, first)

    def fit(self, clips: Iterable[Tensor]) -> None:
        """Start the linear path, if there is one, from the principal components of some clips (3, T, H, W)."""
        if self.linear is None:
            return
        self.linear.fit(clips)
        flows = (self.decoder.flow1, self.decoder.flow2)
        start_silent(self.encoder.out, self.decoder.out, *(flow[len(flow) - 1] for flow in flows))
        # and nearly without noise, which unit variance would drown in
        bias = self.encoder.out.conv.bias
        assert bias is not None
        with torch.no_grad():
            bias[self.spec.latent_channels :] = -6.0


class Encoder(nn.Module):
    """Haar coefficients (B, 24, 1 + 2k, H/2, W/2) -> moments (B, 2C, 1 + k, H/8, W/8).

    The low band of each wavelet level joins the convolutions below it: the paper's energy flow.
    """

    def __init__(self, latent: int, base: int, flow: int, blocks: int, attention: bool, gain: float) -> None:
        super().__init__()
        self.haar1, self.haar2 = Haar2D(), Haar3D(gain)
        self.flow1, self.flow2 = FrameConv(12, flow, 3, padding=1), FrameConv(24, flow, 3, padding=1)
        self.level1 = Stack(
            FrameConv(24, base, 3, padding=1),
            *(ResBlock(base, base, frames_alone=True) for _ in range(blocks)),
        )
        self.down1 = FrameConv(base, base, 3, stride=2)
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
        low1 = self.haar1(bands[:, :3])
        low2 = self.haar2(low1[:, :3], cache)
        h = self.down1(pad_corner(self.level1(bands, cache)))
        h = self.level2(torch.cat([h, self.flow1(low1)], dim=1), cache)
        h = self.down2(pad_corner(h), cache)
        h = self.middle(torch.cat([h, self.flow2(low2)], dim=1), cache)
        moments: Tensor = self.out(F.silu(self.norm(h)), cache)
        return moments


class Decoder(nn.Module):
    """Latents (B, C, 1 + k, H/8, W/8) -> Haar coefficients (B, 24, 1 + 2k, H/2, W/2).

    Each level predicts its wavelet bands; the level below, transformed back, is added to their low band.
    """

    def __init__(
        self,
        latent: int,
        base: int,
        blocks: int,
        flow_blocks: int,
        attention: bool,
        interpolation: Interpolation,
        gain: float,
    ) -> None:
        super().__init__()
        wide = 4 * base
        self.base = base
        self.haar1, self.haar2 = Haar2D(), Haar3D(gain)
        self.conv_in = CausalConv3d(latent, wide)
        self.middle = Stack(
            ResBlock(wide, wide), *((FrameAttention(wide),) if attention else ()), ResBlock(wide, wide + base)
        )
        self.flow2 = Stack(*(ResBlock(base, base) for _ in range(flow_blocks)), FrameConv(base, 24, 3, padding=1))
        self.up2 = Stack(
            *(ResBlock(wide, wide) for _ in range(blocks)),
            SpaceTimeUpsample(wide, interpolation),
            ResBlock(wide, wide + base),
        )
        self.flow1 = Stack(*(ResBlock(base, base) for _ in range(flow_blocks)), FrameConv(base, 12, 3, padding=1))
        self.up1 = Stack(
            *(ResBlock(wide if i == 0 else 2 * base, 2 * base) for i in range(blocks)),
            SpaceUpsample(2 * base),
            ResBlock(2 * base, 2 * base),
        )
        self.level1 = Stack(ResBlock(2 * base, base), ResBlock(base, base))
        self.norm, self.out = ChannelNorm(base), FrameConv(base, 24, 3, padding=1)

    def forward(self, latents: Tensor, first: bool, cache: StreamCache | None) -> Tensor:
        h, flow = self._split(self.middle(self.conv_in(latents, cache), cache))
        bands2 = self.flow2(flow, cache)
        if cache is not None:
            bands2 = bands2[:, :, : bands2.shape[2] - cache.lookahead]
        h, flow = self._split(self.up2(h, cache))
        bands1 = _add_to_low(self.flow1(flow, cache), self.haar2.inverse(bands2, first))
        h = self.level1(self.up1(h, cache), cache)
        return _add_to_low(self.out(F.silu(self.norm(h))), self.haar1.inverse(bands1))

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The last `base` channels leave for the low-frequency path."""
        return h[:, : -self.base], h[:, -self.base :]


def _add_to_low(bands: Tensor, low: Tensor) -> Tensor:
    return torch.cat([bands[:, :3] + low, bands[:, 3:]], dim=1)

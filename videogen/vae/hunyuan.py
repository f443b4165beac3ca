"""HunyuanVideo's autoencoder: causal 3D convolutions and attention, 4x8x8 strides, norms over the whole clip.

After "HunyuanVideo: A Systematic Framework For Large Video Generative Models" (arXiv 2412.03603), section 4.1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._convolution import Conv3d
from videogen.vae._doubling import doubled, doubled_in_time
from videogen.vae._layers import FrameAttention, Norm, ResBlock, Stack
from videogen.vae._lean import channels_last, lean, plus, silu
from videogen.vae._levels import GROUPS, make_norm
from videogen.vae._streaming import CausalVAE, StreamCache, with_past
from videogen.vae._taps import along_time

#: the last so many changes of resolution, of the encoder and of the decoder, are in time too
TIME_STEPS = 2


@VAES.register("hunyuan")
class HunyuanVAE(CausalVAE):
    """Causal 3D convolutions, 4x8x8 strides, 16 channels, whole clips (HunyuanVideo, https://arxiv.org/abs/2412.03603).

    The whole clip goes through at once, as the paper's does. Implementations that code long clips in overlapping
    pieces, and blend those, give other numbers where a clip is longer than a piece.

    Args:
        latent_channels: channels of the latents.
        base_channels: width at full resolution.
        channel_multipliers: width of each level as a multiple of base_channels, finest first; one level more than
            there are halvings of height and width. The last two halvings are of time too, and so are the last two
            doublings, which are the finest ones.
        num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
        norm_groups: groups of the normalisation over the clip.
        use_attention: attention at the coarsest level, each frame's positions to those of its own and earlier frames.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: fewer than 3 levels, or widths that don't split into the groups.
    """

    whole_clip_only = (
        "its norms take mean and variance over all frames. Give it whole (encode, decode, or a stream of one chunk), "
        "or take a VAE that streams, such as wavelet"
    )

    def __init__(
        self,
        *,
        latent_channels: int = 16,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        norm_groups: int = GROUPS,
        use_attention: bool = True,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if len(channel_multipliers) <= TIME_STEPS:
            raise ValueError(
                f"channel_multipliers={tuple(channel_multipliers)} has {len(channel_multipliers)} levels, but time is "
                f"halved {TIME_STEPS} times: give at least {TIME_STEPS + 1}"
            )
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=2**TIME_STEPS,
            spatial_stride=2 ** (len(channel_multipliers) - 1),
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        norm = make_norm("group", norm_groups)
        self.encoder = Encoder(latent_channels, widths, num_res_blocks, norm, use_attention)
        self.decoder = Decoder(latent_channels, widths, num_res_blocks + 1, norm, use_attention)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w)."""
        moments: Tensor = self.encoder(video)
        return moments

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W)."""
        video: Tensor = self.decoder(latents)
        return video


class Encoder(nn.Module):
    """Video (B, 3, 1 + 4k, H, W) -> moments (B, 2C, 1 + k, H/8, W/8)."""

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, norm: Norm, attention: bool) -> None:
        super().__init__()
        self.conv_in = EdgeConv3d(3, widths[0])
        levels = _res_blocks(widths[0], widths[0], blocks, norm)
        for i, (source, width) in enumerate(pairwise(widths)):
            stride = (2 if _in_time(i, widths) else 1, 2, 2)
            levels += [EdgeConv3d(source, source, 3, stride), *_res_blocks(source, width, blocks, norm)]
        self.levels = Stack(*levels)
        self.middle = _middle(widths[-1], norm, attention)
        self.norm, self.out = norm(widths[-1]), EdgeConv3d(widths[-1], 2 * latent)
        self.quant = nn.Conv3d(2 * latent, 2 * latent, 1)

    def forward(self, video: Tensor) -> Tensor:
        h = self.middle(self.levels(self.conv_in(video)))
        moments: Tensor = self.quant(self.out(silu(self.norm(h))))
        return moments


class Decoder(nn.Module):
    """Latents (B, C, 1 + k, H/8, W/8) -> video (B, 3, 1 + 4k, H, W)."""

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, norm: Norm, attention: bool) -> None:
        super().__init__()
        self.quant = nn.Conv3d(latent, latent, 1)
        self.conv_in = EdgeConv3d(latent, widths[-1])
        self.middle = _middle(widths[-1], norm, attention)
        levels = _res_blocks(widths[-1], widths[-1], blocks, norm)
        for i, (source, width) in enumerate(pairwise(reversed(widths))):
            levels += [Upsample(source, time=_in_time(i, widths)), *_res_blocks(source, width, blocks, norm)]
        self.levels = Stack(*levels)
        self.norm, self.out = norm(widths[0]), EdgeConv3d(widths[0], 3)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.levels(self.middle(self.conv_in(self.quant(latents))))
        video: Tensor = self.out(silu(self.norm(h)))
        return video


class EdgeConv3d(nn.Module):
    """3D convolution that looks only backward in time; beyond a clip's borders its border values go on."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 3, stride: int | tuple[int, int, int] = 1
    ) -> None:
        super().__init__()
        self.conv = Conv3d(channels_in, channels_out, kernel, stride)
        self.pad = (*(kernel // 2,) * 4, kernel - 1, 0)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        out: Tensor = self.conv(F.pad(x, self.pad, mode="replicate"))
        return out


class Upsample(nn.Module):
    """Twice the height and width, and the frames but the first if asked (nearest), then a causal convolution."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__()
        self.conv, self.time = EdgeConv3d(channels, channels), time

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        if lean(x):
            conv, x = self.conv.conv, channels_last(x)
            edge = functools.partial(doubled, border="replicate")
            if self.time:
                return doubled_in_time(x, conv.weight, conv.bias, edge)
            return along_time(with_past(self, x, 2, 0, None), conv.weight, conv.bias, edge)
        if self.time:
            x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
        out: Tensor = self.conv(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))
        return out


class CausalAttention(FrameAttention):
    """Single-head self-attention to the positions of a frame and of those before it, plus the input."""

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        frames, height, width = x.shape[2:]
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (three c) t h w -> three b 1 (t h w) c", three=3)
        area = height * width
        # frame by frame: half of the work, and no mask of all positions by all positions
        ends = range(area, (frames + 1) * area, area)
        seen = [F.scaled_dot_product_attention(q[:, :, e - area : e], k[:, :, :e], v[:, :, :e]) for e in ends]
        h = rearrange(torch.cat(seen, dim=2), "b 1 (t h w) c -> b c t h w", t=frames, h=height)
        return plus(self.out(h), x)


def _in_time(step: int, widths: Sequence[int]) -> bool:
    """Whether a change of resolution, counted in the order of the forward pass, is in time too."""
    return step >= len(widths) - 1 - TIME_STEPS


def _res_blocks(channels_in: int, channels: int, count: int, norm: Norm) -> list[nn.Module]:
    widths = [channels_in, *[channels] * count]
    return [ResBlock(source, channels, norm=norm, causal=EdgeConv3d) for source in widths[:count]]


def _middle(channels: int, norm: Norm, attention: bool) -> Stack:
    first, last = _res_blocks(channels, channels, 2, norm)
    return Stack(first, *((CausalAttention(channels, norm),) if attention else ()), last)

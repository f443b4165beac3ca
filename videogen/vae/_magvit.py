"""The halves of Open-Sora 1.3's autoencoder: convolutions with zeros before a clip, norms over the whole of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._convolution import Conv3d
from videogen.vae._layers import FrameAttention, Norm, ResBlock, SpaceUpsample, Stack
from videogen.vae._lean import plus, silu
from videogen.vae._levels import SpaceDownsample
from videogen.vae._streaming import StreamCache
from videogen.vae._temporal import zeros_before

#: changes of resolution that are in time too: the encoder's last ones, the decoder's first
TIME_STEPS = 2


class Encoder(nn.Module):
    """Video (B, 3, 1 + 4k, H, W) -> moments (B, 2C, 1 + k, H/8, W/8)."""

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, norm: Norm) -> None:
        super().__init__()
        self.conv_in = ZeroConv3d(3, widths[0])
        levels = _res_blocks(widths[0], widths[0], blocks, norm)
        for step, (source, width) in enumerate(pairwise(widths), start=1):
            in_time = step > len(widths) - 1 - TIME_STEPS
            levels.append(ZeroConv3d(source, source, stride=2) if in_time else SpaceDownsample(source))
            levels += _res_blocks(source, width, blocks, norm)
        self.levels = Stack(*levels)
        self.middle = _middle(widths[-1], norm)
        self.norm, self.out = norm(widths[-1]), ZeroConv3d(widths[-1], 2 * latent)

    def forward(self, video: Tensor) -> Tensor:
        moments: Tensor = self.out(silu(self.norm(self.middle(self.levels(self.conv_in(video))))))
        return moments


class Decoder(nn.Module):
    """Latents (B, C, 1 + k, H/8, W/8) -> video (B, 3, 1 + 4k, H, W)."""

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, norm: Norm) -> None:
        super().__init__()
        self.conv_in = ZeroConv3d(latent, widths[-1])
        self.middle = _middle(widths[-1], norm)
        levels = _res_blocks(widths[-1], widths[-1], blocks, norm)
        for step, (source, width) in enumerate(pairwise(reversed(widths))):
            levels.append(Upsample(source, norm) if step < TIME_STEPS else SpaceUpsample(source))
            levels += _res_blocks(source, width, blocks, norm)
        self.levels = Stack(*levels)
        self.norm, self.out = norm(widths[0]), ZeroConv3d(widths[0], 3)

    def forward(self, latents: Tensor) -> Tensor:
        video: Tensor = self.out(silu(self.norm(self.levels(self.middle(self.conv_in(latents))))))
        # what stands before the first frame, whose latent frame is doubled as all others are
        return video[:, :, 2**TIME_STEPS - 1 :]


class ZeroConv3d(Conv3d):
    """3D convolution that looks only backward in time; all around a clip, but behind it, are zeros."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, (0, kernel // 2, kernel // 2))

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        return super().forward(zeros_before(x, self.kernel_size[0] - 1))


class Upsample(nn.Module):
    """Twice the frames, height and width (nearest), then two convolutions with norms behind them, added twice over."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.conv2 = ZeroConv3d(channels, channels), ZeroConv3d(channels, channels)
        self.norm1, self.norm2 = norm(channels), norm(channels)
        for layer in (self.norm1, self.norm2):
            assert isinstance(layer, nn.GroupNorm)
            # where the other norms have 1e-6
            layer.eps = 1e-5

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        h = silu(self.norm1(self.conv1(x)))
        return plus(silu(plus(self.norm2(self.conv2(h)), x)), x)


class PositionCausalAttention(FrameAttention):
    """Single-head self-attention, of each position to itself and those before it: earlier frames, rows, columns."""

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        frames, height, _ = x.shape[2:]
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (three c) t h w -> three b 1 (t h w) c", three=3)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return plus(self.out(rearrange(h, "b 1 (t h w) c -> b c t h w", t=frames, h=height)), x)


def _res_blocks(channels_in: int, channels: int, count: int, norm: Norm) -> list[nn.Module]:
    widths = [channels_in, *[channels] * count]
    return [ResBlock(source, channels, norm=norm, causal=ZeroConv3d) for source in widths[:count]]


def _middle(channels: int, norm: Norm) -> Stack:
    first, last = _res_blocks(channels, channels, 2, norm)
    return Stack(first, PositionCausalAttention(channels, norm), last)

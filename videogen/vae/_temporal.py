"""A causal autoencoder along time alone, after MAGVIT-v2's (arXiv 2310.05737): zeros stand before a clip."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._convolution import Conv3d
from videogen.vae._layers import Norm, ResBlock, Stack
from videogen.vae._lean import silu
from videogen.vae._levels import GroupNorm
from videogen.vae._streaming import StreamCache


class TemporalVAE(nn.Module):
    """A causal autoencoder along time, (B, C, T, h, w) <-> (B, C', t, h, w); height and width stay as they are.

    A clip is lengthened to whole strides by zeros in front, so of 1 + k strides the first frame stands alone.
    """

    def __init__(
        self,
        channels: int,
        latent: int,
        widths: Sequence[int],
        downsample: Sequence[bool],
        blocks: int,
        groups: int,
    ) -> None:
        super().__init__()

        def norm(width: int) -> GroupNorm:
            layer = GroupNorm(width, groups)
            # where image autoencoders have 1e-6
            layer.eps = 1e-5
            return layer

        self.stride = 2 ** sum(downsample)
        self.encoder = Encoder(channels, 2 * latent, widths, downsample, blocks, norm)
        self.quant = CausalConv(2 * latent, 2 * latent, 1)
        self.post_quant = CausalConv(latent, latent, 1)
        self.decoder = Decoder(latent, channels, widths, downsample, blocks, norm)

    def encode(self, frames: Tensor) -> Tensor:
        """Latents of frames (B, C, T, h, w) -> mean and log-variance (B, 2C', t, h, w), t = T / stride, rounded up."""
        moments: Tensor = self.quant(self.encoder(zeros_before(frames, -frames.shape[2] % self.stride)))
        return moments

    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """Latents (B, C', t, h, w) -> latents of the last so many frames (B, C, num_frames, h, w)."""
        frames: Tensor = self.decoder(self.post_quant(latents))
        return frames[:, :, frames.shape[2] - num_frames :]


class CausalConv(Conv3d):
    """3D convolution that looks only backward in time: before a clip's first frame are zeros."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 3, *, time_stride: int = 1, bias: bool = True
    ) -> None:
        padding = (0, kernel // 2, kernel // 2)
        super().__init__(channels_in, channels_out, kernel, (time_stride, 1, 1), padding, bias=bias)
        self.past = kernel - time_stride

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        return super().forward(zeros_before(x, self.past))


class TimeUpsample(CausalConv):
    """Twice the frames: a convolution whose channels unfold into time."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        return rearrange(super().forward(x), "b (c two) t h w -> b c (t two) h w", two=2)


class Encoder(nn.Module):
    """Latents of frames (B, C, k strides, h, w) -> features (B, 2C', k, h, w)."""

    def __init__(
        self, channels: int, out: int, widths: Sequence[int], downsample: Sequence[bool], blocks: int, norm: Norm
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv(channels, widths[0], bias=False)
        levels, width = [], widths[0]
        for level, (target, halved) in enumerate(zip(widths, (*downsample, False), strict=True), start=1):
            levels += _blocks(width, target, blocks * (1 + (level == len(widths))), norm)
            width = target
            if halved:
                levels.append(CausalConv(width, width, time_stride=2))
        self.levels = Stack(*levels)
        self.norm, self.out = norm(width), CausalConv(width, out, 1)

    def forward(self, frames: Tensor) -> Tensor:
        features: Tensor = self.out(silu(self.norm(self.levels(self.conv_in(frames)))))
        return features


class Decoder(nn.Module):
    """Latents (B, C', k, h, w) -> latents of frames (B, C, k strides, h, w)."""

    def __init__(
        self, latent: int, channels: int, widths: Sequence[int], downsample: Sequence[bool], blocks: int, norm: Norm
    ) -> None:
        super().__init__()
        width = widths[-1]
        self.conv_in = CausalConv(latent, width)
        levels = _blocks(width, width, blocks, norm)
        for target, doubled in zip(reversed(widths), (*reversed(downsample), False), strict=True):
            levels += _blocks(width, target, blocks, norm)
            width = target
            if doubled:
                levels.append(TimeUpsample(width))
        self.levels = Stack(*levels)
        self.norm, self.out = norm(width), CausalConv(width, channels)

    def forward(self, latents: Tensor) -> Tensor:
        frames: Tensor = self.out(silu(self.norm(self.levels(self.conv_in(latents)))))
        return frames


def _blocks(channels_in: int, channels: int, count: int, norm: Norm) -> list[nn.Module]:
    conv = functools.partial(CausalConv, bias=False)
    widths = [channels_in, *[channels] * count]
    return [ResBlock(source, channels, norm=norm, causal=conv) for source in widths[:count]]


def zeros_before(x: Tensor, count: int) -> Tensor:
    """Zeros for so many frames in front, (B, C, T, H, W) -> (B, C, count + T, H, W)."""
    return F.pad(x, (0, 0, 0, 0, count, 0)) if count else x

"""What DC-AE is built of, on images (B, C, H, W): EfficientViT's blocks, and residual changes of resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._convolution import Conv2d
from videogen.vae._doubling import doubled
from videogen.vae._lean import channels_last, lean, over_rms, plus

Downsampling = Literal["conv", "pixel_unshuffle"]
Upsampling = Literal["interpolate", "pixel_shuffle"]


class ChannelRMSNorm(nn.RMSNorm):
    """Each position over the root mean square of its channels, then a scale and a shift for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-5)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if lean(x):
            assert self.eps is not None
            weight, bias = (parameter[:, None, None] for parameter in (self.weight, self.bias))
            return over_rms(channels_last(x), self.eps).mul_(weight).add_(bias)
        return (super().forward(x.movedim(1, -1)) + self.bias).movedim(-1, 1)


class EfficientViTBlock(nn.Sequential):
    """Linear attention, then a gated convolution (https://arxiv.org/abs/2205.14756).

    Args:
        head_dim: channels of a head.
        scales: odd sizes of the windows that queries, keys and values are gathered over too.
    """

    def __init__(self, channels: int, head_dim: int, scales: Sequence[int]) -> None:
        super().__init__()
        self.attention = LinearAttention(channels, head_dim, scales)
        self.glu = GatedConv(channels)


class LinearAttention(nn.Module):
    """Attention with the kernel ReLU(q) ReLU(k) among all positions, over several scales, plus the input.

    Raises:
        ValueError: the heads don't divide the channels, or a scale is even.
    """

    def __init__(self, channels: int, head_dim: int, scales: Sequence[int]) -> None:
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"{channels} channels do not split into heads of head_dim={head_dim}: use a divisor")
        if any(scale % 2 == 0 for scale in scales):
            raise ValueError(f"qkv_scales={tuple(scales)}: windows have a middle, so use odd sizes")
        self.head_dim, inner = head_dim, 3 * channels
        self.qkv = Conv2d(channels, inner, 1, bias=False)
        self.scales = nn.ModuleList(
            nn.Sequential(
                Conv2d(inner, inner, scale, padding=scale // 2, groups=inner, bias=False),
                Conv2d(inner, inner, 1, groups=inner // head_dim, bias=False),
            )
            for scale in scales
        )
        self.out = Conv2d(channels * (1 + len(scales)), channels, 1, bias=False)
        self.norm = ChannelRMSNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        heads = torch.cat([qkv, *(scale(qkv) for scale in self.scales)], dim=1)
        # sums over all positions: half precision would lose the small terms
        heads = heads.to(torch.promote_types(heads.dtype, torch.float32))
        q, k, v = rearrange(heads, "b (heads three d) h w -> three b heads d (h w)", three=3, d=self.head_dim)
        q, k = F.relu(q), F.relu(k)
        total = (k.sum(-1, keepdim=True) * q).sum(-2, keepdim=True)
        h = (v @ k.transpose(-1, -2)) @ q / (total + 1e-15)
        h = rearrange(h.to(x.dtype), "b heads d (h w) -> b (heads d) h w", h=x.shape[-2])
        return plus(self.norm(self.out(h)), x)


class GatedConv(nn.Module):
    """Four times the channels, each over its 3x3 neighbours and gated by another, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 8 * channels
        self.expand = Conv2d(channels, wide, 1)
        self.depth = Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.project = Conv2d(wide // 2, channels, 1, bias=False)
        self.norm = ChannelRMSNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        h, gate = self.depth(F.silu(self.expand(x))).chunk(2, dim=1)
        return plus(self.norm(self.project(h * F.silu(gate))), x)


class ResBlock(nn.Module):
    """Convolution, activation, convolution, norm, plus the input."""

    def __init__(self, channels: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, padding=1)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.activation = nn.ReLU() if batch_norm else nn.SiLU()
        self.norm = nn.BatchNorm2d(channels) if batch_norm else ChannelRMSNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return plus(self.norm(self.conv2(self.activation(self.conv1(x)))), x)


class Downsample(nn.Module):
    """Half the height and width by a convolution, plus the input: space folded into channels, averaged in groups."""

    def __init__(self, channels_in: int, channels_out: int, kind: Downsampling, *, shortcut: bool = True) -> None:
        super().__init__()
        check_split("the shortcut of a downsampler", 4 * channels_in, channels_out, shortcut)
        check_split("downsample='pixel_unshuffle'", channels_out, 4, kind == "pixel_unshuffle")
        self.channels_out, self.shortcut, self.folds = channels_out, shortcut, kind == "pixel_unshuffle"
        channels, stride = (channels_out // 4, 1) if self.folds else (channels_out, 2)
        self.conv = Conv2d(channels_in, channels, 3, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(x)
        if self.folds:
            h = F.pixel_unshuffle(h, 2)
        return h + averaged(F.pixel_unshuffle(x, 2), self.channels_out) if self.shortcut else h


class Upsample(nn.Module):
    """Twice the height and width by a convolution, plus the input: channels, repeated, unfolded into space."""

    def __init__(self, channels_in: int, channels_out: int, kind: Upsampling, *, shortcut: bool = True) -> None:
        super().__init__()
        check_split("the shortcut of an upsampler", 4 * channels_out, channels_in, shortcut)
        self.unfolded, self.shortcut, self.unfolds = 4 * channels_out, shortcut, kind == "pixel_shuffle"
        self.conv = Conv2d(channels_in, self.unfolded if self.unfolds else channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.unfolds:
            h = F.pixel_shuffle(self.conv(x), 2)
        elif lean(x):
            h = doubled(channels_last(x), self.conv.weight, self.conv.bias)
        else:
            h = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
        return plus(h, F.pixel_shuffle(repeated(x, self.unfolded), 2)) if self.shortcut else h


def averaged(x: Tensor, channels: int) -> Tensor:
    """Neighbouring channels averaged, down to so many."""
    return rearrange(x, "b (c group) h w -> b c group h w", c=channels).mean(2)


def repeated(x: Tensor, channels: int) -> Tensor:
    """Each channel repeated, up to so many."""
    return x.repeat_interleave(channels // x.shape[1], dim=1)


def check_split(what: str, channels: int, groups: int, wanted: bool) -> None:
    """Refuse channels that something, where it is wanted, can't split into so many groups."""
    if wanted and channels % groups:
        raise ValueError(f"{what}: {channels} channels do not split into {groups} groups: use a multiple of {groups}")

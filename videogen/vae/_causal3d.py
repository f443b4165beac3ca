"""What the releases of OD-VAE differ in: how time is halved and doubled, and the attention in the middle."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._layers import (
    CausalConv3d,
    FrameAttention,
    Interpolation,
    Norm,
    SpaceTimeUpsample,
    SpaceUpsample,
    Stack,
)
from videogen.vae._levels import SpaceDownsample, SpaceTimeDownsample, middle, res_blocks
from videogen.vae._streaming import StreamCache, with_past

TimeResampling = Literal["conv", "pool", "mixed"]
Attention = Literal["frame", "scrambled"]


class TimePool(nn.Module):
    """Half the frames (but the first) by averages of three: 1 + 2k frames -> 1 + k."""

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        return F.avg_pool3d(with_past(self, x, 2, 1, cache), (3, 1, 1), (2, 1, 1))


class TimeDownsample(nn.Module):
    """Half the frames (but the first) by averages and by a causal convolution, mixed: 1 + 2k frames -> 1 + k."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = TimePool()
        self.conv = CausalConv3d(channels, channels, 3, stride=(2, 1, 1))
        self.mix_factor = _mix_factor()

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        return _mixed(self.mix_factor, self.pool(x, cache), self.conv(x, cache))


class TimeUpsample(nn.Module):
    """Twice the frames (but the first) by interpolation, mixed with a causal convolution of it: 1 + k -> 1 + 2k."""

    def __init__(self, channels: int, interpolation: Interpolation, *, feeds_another: bool) -> None:
        super().__init__()
        self.upsample = SpaceTimeUpsample(channels, interpolation, feeds_another=feeds_another, time_alone=True)
        self.conv = CausalConv3d(channels, channels)
        self.mix_factor = _mix_factor()

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        x = self.upsample(x, cache)
        return _mixed(self.mix_factor, x, self.conv(x, cache))


class ScrambledAttention(FrameAttention):
    """Attention of v1.0: (C, T) is read as (T, C), so a would-be frame is a part of the channels at all times."""

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        batch, channels, frames = x.shape[:3]
        parts = self.qkv(self.norm(x)).chunk(3, dim=1)
        q, k, v = (part.reshape(batch * frames, 1, channels, -1).transpose(-1, -2) for part in parts)
        h = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(h.transpose(-1, -2).reshape(x.shape))
        return x + out


def space_time_downsample(kind: TimeResampling, channels: int) -> list[nn.Module]:
    """Half the frames (but the first), height and width."""
    if kind == "conv":
        return [SpaceTimeDownsample(channels)]
    return [SpaceDownsample(channels), TimePool() if kind == "pool" else TimeDownsample(channels)]


def space_time_upsample(
    kind: TimeResampling, channels: int, interpolation: Interpolation, *, feeds_another: bool
) -> list[nn.Module]:
    """Twice the frames (but the first), height and width; `feeds_another` as in `SpaceTimeUpsample`."""
    if kind == "conv":
        return [SpaceTimeUpsample(channels, interpolation, feeds_another=feeds_another)]
    if kind == "mixed":
        return [SpaceUpsample(channels), TimeUpsample(channels, interpolation, feeds_another=feeds_another)]
    doubled = SpaceTimeUpsample(channels, interpolation, feeds_another=feeds_another, time_alone=True)
    return [SpaceUpsample(channels), doubled]


def make_middle(channels: int, norm: Norm, attention: Attention) -> Stack:
    """The coarsest level: a residual block, attention, a residual block."""
    if attention == "frame":
        return middle(channels, norm)
    first, last = res_blocks(channels, channels, 2, norm)
    return Stack(first, ScrambledAttention(channels, norm), last)


def _mix_factor() -> nn.Parameter:
    """Before the sigmoid; the first value is v1.1's, which leaves 0.88 to the part without weights."""
    return nn.Parameter(torch.tensor([2.0]))


def _mixed(factor: Tensor, plain: Tensor, learned: Tensor) -> Tensor:
    share = factor.sigmoid()
    return share * plain + (1 - share) * learned

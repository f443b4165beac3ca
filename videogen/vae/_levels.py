"""What autoencoders in the shape of Stable Diffusion's are built of: levels of residual blocks, and their norms."""

from __future__ import annotations

import functools
from typing import Literal

from torch import Tensor, nn

from videogen.vae._layers import (
    CausalConv3d,
    ChannelNorm,
    FrameAttention,
    FrameConv,
    Norm,
    ResBlock,
    Stack,
    pad_corner,
)
from videogen.vae._lean import channels_last, frames_first, frames_last, kept_last, lean
from videogen.vae._streaming import StreamCache

NormKind = Literal["group", "channel"]
#: groups of the published models
GROUPS = 32


class GroupNorm(nn.GroupNorm):
    """Group normalisation over all positions and frames of a clip (https://arxiv.org/abs/1803.08494).

    Raises:
        ValueError: the groups don't divide the channels.
    """

    def __init__(self, channels: int, groups: int) -> None:
        if groups < 1 or channels % groups:
            nearest = max(1, round(channels / max(groups, 1))) * max(groups, 1)
            raise ValueError(
                f"{channels} channels do not split into norm_groups={groups}: use {nearest} channels or other groups"
            )
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if not lean(x):
            return super().forward(x)
        # frames as rows of one image: torch's norm of clips whose channels lie last is 6 times slower
        rows = frames_first(channels_last(x)).flatten(1, 2).permute(0, 3, 1, 2)
        return frames_last(kept_last(super().forward(rows)).permute(0, 2, 3, 1).view_as(frames_first(x)))


def make_norm(kind: NormKind, groups: int) -> Norm:
    """The normalisation that a config names.

    Raises:
        ValueError: no such kind, or groups were asked of one that has none.
    """
    if kind == "group":
        return functools.partial(GroupNorm, groups=groups)
    if kind != "channel":
        raise ValueError(f"norm={kind!r} is unknown: choose group or channel")
    if groups != GROUPS:
        raise ValueError(f"norm_groups={groups} says nothing with norm='channel': leave it out, or use norm='group'")
    return ChannelNorm


class SpaceDownsample(nn.Module):
    """Half the height and width by a convolution of each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = FrameConv(channels, channels, 3, stride=2)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        out: Tensor = self.conv(pad_corner(x))
        return out


class SpaceTimeDownsample(nn.Module):
    """Half the frames (but the first), height and width by a causal convolution: 1 + 2k frames -> 1 + k."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, 3, stride=2, padding=0)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        out: Tensor = self.conv(pad_corner(x), cache)
        return out


def res_blocks(
    channels_in: int, channels: int, count: int, norm: Norm, *, frames_alone: bool = False
) -> list[nn.Module]:
    """The residual blocks of one level; the first of them changes the width."""
    widths = [channels_in, *[channels] * count]
    return [ResBlock(source, channels, frames_alone=frames_alone, norm=norm) for source in widths[:count]]


def middle(channels: int, norm: Norm, *, attention: bool = True, frames_alone: bool = False) -> Stack:
    """The coarsest level: a residual block, attention within each frame, a residual block."""
    first, last = res_blocks(channels, channels, 2, norm, frames_alone=frames_alone)
    return Stack(first, *((FrameAttention(channels, norm),) if attention else ()), last)

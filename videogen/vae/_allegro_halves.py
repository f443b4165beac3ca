"""The two halves of Allegro's autoencoder, each on one tile."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._allegro import Frames, TimeBlock, TimeMix
from videogen.vae._frame_norm import FrameNorm
from videogen.vae._layers import FrameAttention, FrameConv, ResBlock, SpaceUpsample, Stack
from videogen.vae._levels import SpaceDownsample


class Encoder(nn.Module):
    """A tile of video (B, 3, 4k, H, W) -> moments, before the last convolution (B, 2C, k, H/8, W/8).

    Args:
        widths: of each level, finest first.
        halves: whether each level is left by halving the frames, finest first.
    """

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, halves: Sequence[bool], groups: int) -> None:
        super().__init__()
        self.conv_in, self.mix_in = FrameConv(3, widths[0], 3, padding=1), TimeMix(widths[0])
        levels: list[nn.Module] = []
        for index, (source, width) in enumerate(pairwise([widths[0], *widths])):
            levels += _level(source, width, blocks, groups, "half" if halves[index] else "same")
            # the coarsest level keeps its resolution
            levels += [SpaceDownsample(width)] if index < len(widths) - 1 else []
        self.levels, self.middle = Stack(*levels), _middle(widths[-1], groups)
        self.norm, self.mix_out = FrameNorm(widths[-1], groups), TimeMix(widths[-1])
        self.out = FrameConv(widths[-1], 2 * latent, 3, padding=1)

    def forward(self, video: Tensor) -> Tensor:
        h = self.middle(self.levels(self.mix_in(self.conv_in(video))))
        moments: Tensor = self.out(self.mix_out(F.silu(self.norm(h))))
        return moments


class Decoder(nn.Module):
    """A tile of latents, behind the first convolution (B, C, k, H/8, W/8) -> video (B, 3, 4k, H, W).

    Args:
        widths: of each level, finest first.
        doubles: whether each level is left by doubling the frames, coarsest first.
    """

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, doubles: Sequence[bool], groups: int) -> None:
        super().__init__()
        self.conv_in, self.mix_in = FrameConv(latent, widths[-1], 3, padding=1), TimeMix(widths[-1])
        self.middle, levels = _middle(widths[-1], groups), []
        for index, (source, width) in enumerate(pairwise([widths[-1], *reversed(widths)])):
            levels += _level(source, width, blocks, groups, "double" if doubles[index] else "same")
            levels += [SpaceUpsample(width)] if index < len(widths) - 1 else []
        self.levels = Stack(*levels)
        self.norm, self.mix_out = FrameNorm(widths[0], groups), TimeMix(widths[0])
        self.out = FrameConv(widths[0], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.levels(self.middle(self.mix_in(self.conv_in(latents))))
        video: Tensor = self.out(self.mix_out(F.silu(self.norm(h))))
        return video


def _pair(source: int, width: int, groups: int) -> list[nn.Module]:
    """A residual block on each frame, then one along time."""
    norm = functools.partial(FrameNorm, groups=groups)
    return [ResBlock(source, width, frames_alone=True, norm=norm), TimeBlock(width, groups)]


def _level(source: int, width: int, blocks: int, groups: int, frames: Frames) -> list[nn.Module]:
    """The blocks of a level and its change of the frame rate; the first of them changes the width."""
    sources = [source, *[width] * blocks][:blocks]
    change = [] if frames == "same" else [TimeBlock(width, groups, frames)]
    return [*(layer for channels in sources for layer in _pair(channels, width, groups)), *change]


def _middle(width: int, groups: int) -> Stack:
    """The coarsest level: blocks, attention within each frame, blocks."""
    attention = FrameAttention(width, functools.partial(FrameNorm, groups=groups))
    return Stack(*_pair(width, width, groups), attention, *_pair(width, width, groups))

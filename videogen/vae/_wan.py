"""Layers of Wan's autoencoders; all take (B, C, T, H, W) and an optional stream cache."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn

from videogen.vae._convolution import Conv3d
from videogen.vae._layers import FrameAttention, ResBlock, Stack
from videogen.vae._lean import lean, plus
from videogen.vae._streaming import StreamCache, begins, with_past


class Level(nn.Module):
    """Layers one after the other, plus the shortcut past all of them, if there is one."""

    def __init__(self, layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.shortcut = Stack(*layers), shortcut

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        h: Tensor = self.layers(x, cache)
        return h if self.shortcut is None else plus(h, self.shortcut(x, cache))


class RMSNorm(nn.Module):
    """Each position over the root mean square of its channels, times a weight (https://arxiv.org/abs/1910.07467)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        # half precision has too few digits for the sum of squares
        unit = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1).to(x.dtype)
        weight = x.shape[1] ** 0.5 * self.weight[:, None, None, None]
        return unit.mul_(weight) if lean(x) else unit * weight


class CausalConv3d(Conv3d):
    """3D convolution that looks only backward in time: before a clip's first frame there are zeros."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int | tuple[int, int, int] = 3) -> None:
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        super().__init__(channels_in, channels_out, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))
        self.past = kernel[0] - 1

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        if self.past and cache is not None and self in cache:
            x = with_past(self, x, 0, self.past, cache)
        elif self.past:
            x = F.pad(x, (0, 0, 0, 0, self.past, 0))
            if cache is not None:
                cache[self] = x[:, :, -self.past :].clone()
        return super().forward(x)


class TimeDownsample(nn.Module):
    """Half the frames by a convolution; the first stays as it is, 1 + 2k frames -> 1 + k."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv3d(channels, channels, (3, 1, 1), (2, 1, 1))

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        alone = int(cache is None or self not in cache)
        head = x[:, :, :alone]
        around = with_past(self, x, 0, 1, cache)
        return torch.cat([head, self.conv(around)], dim=2) if around.shape[2] > 1 else head


class TimeUpsample(nn.Module):
    """Twice the frames by a convolution that gives two of each; it neither sees the first nor changes it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, 2 * channels, (3, 1, 1))

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        alone = int(begins(self, cache))
        head, tail = x[:, :, :alone], x[:, :, alone:]
        if tail.shape[2] == 0:
            return head
        doubled = rearrange(self.conv(tail, cache), "b (two c) t h w -> b c (t two) h w", two=2)
        return torch.cat([head, doubled], dim=2)


class FoldedMean(nn.Module):
    """Positions folded into channels, and those averaged in groups; a zero goes before a clip's first frame.

    The residual autoencoding of DC-AE (arXiv 2410.10733), in time too.
    """

    def __init__(self, channels_in: int, channels_out: int, time: int, space: int) -> None:
        super().__init__()
        self.channels_out, self.strides = channels_out, {"dt": time, "dy": space, "dx": space}
        folded = channels_in * time * space**2
        if folded % channels_out:
            raise ValueError(
                f"a shortcut can't average {channels_in} channels, folded to {folded}, to {channels_out}: use a width "
                f"that divides {folded}"
            )

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        # only the chunk that begins a clip has an odd number of frames
        x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.strides["dt"], 0))
        folded = rearrange(x, "b c (t dt) (h dy) (w dx) -> b (c dt dy dx) t h w", **self.strides)
        out: Tensor = reduce(folded, "b (c group) t h w -> b c t h w", "mean", c=self.channels_out)
        return out


class Unfolded(nn.Module):
    """Channels repeated and unfolded into positions, twice the height and width, and the frames but the first."""

    def __init__(self, channels_in: int, channels_out: int, time: int) -> None:
        super().__init__()
        self.strides = {"dt": time, "dy": 2, "dx": 2}
        folded = channels_out * time * 4
        if folded % channels_in:
            raise ValueError(
                f"a shortcut can't repeat {channels_in} channels to {folded}, to unfold them to {channels_out}: use a "
                f"width that divides {folded}"
            )
        self.repeats = folded // channels_in

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        repeated = x.repeat_interleave(self.repeats, dim=1)
        out = rearrange(repeated, "b (c dt dy dx) t h w -> b c (t dt) (h dy) (w dx)", **self.strides)
        return out[:, :, self.strides["dt"] - 1 :] if begins(self, cache) else out


def res_blocks(channels_in: int, channels: int, count: int) -> list[nn.Module]:
    """The residual blocks of one level; the first of them changes the width."""
    block = functools.partial(ResBlock, norm=RMSNorm, causal=CausalConv3d)
    return [block(channels if index else channels_in, channels) for index in range(count)]


def middle(channels: int) -> Stack:
    """The coarsest level: a residual block, attention within each frame, a residual block."""
    first, last = res_blocks(channels, channels, 2)
    return Stack(first, FrameAttention(channels, RMSNorm), last)

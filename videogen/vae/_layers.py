"""Layers that the video autoencoders share; all take (B, C, T, H, W) and an optional stream cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._convolution import Conv2d, Conv3d
from videogen.vae._doubling import doubled
from videogen.vae._lean import channels_last, lean, of_frames, plus, silu
from videogen.vae._streaming import StreamCache, with_past

Interpolation = Literal["nearest", "trilinear"]
#: makes the normalisation of a number of channels
Norm = Callable[[int], nn.Module]


class CausalConv3d(nn.Module):
    """3D convolution that looks only backward in time: the past of a clip's first frame is that frame, repeated.

    Args:
        kernel: along (T, H, W).
        stride: along (T, H, W).
        padding: zeros along height and width.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int, int] = 3,
        stride: int | tuple[int, int, int] = 1,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        stride = (stride,) * 3 if isinstance(stride, int) else stride
        space = (kernel[1] // 2, kernel[2] // 2) if padding is None else (padding, padding)
        self.conv = Conv3d(channels_in, channels_out, kernel, stride, (0, *space))
        self.pad, self.keep = kernel[0] - 1, kernel[0] - stride[0]

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        if self.pad:
            x = with_past(self, x, self.pad, self.keep, cache)
        out: Tensor = self.conv(x)
        return out


class FrameConv(Conv2d):
    """2D convolution of each frame alone."""

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        if lean(x):
            return of_frames(channels_last(x), super().forward)
        # a 3D one with a kernel of 1 in time: no frame is copied
        padding = (0, *(int(p) for p in self.padding))
        return F.conv3d(x, self.weight.unsqueeze(2), self.bias, (1, *self.stride), padding)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position: knows no neighbours, so chunks normalise as the whole clip does."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ResBlock(nn.Module):
    """norm, SiLU, convolution, twice, plus the input; causal in time, or on each frame alone.

    Args:
        causal: makes a convolution from the channels in, the channels out and the kernel.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        frames_alone: bool = False,
        norm: Norm = ChannelNorm,
        causal: Callable[[int, int, int], nn.Module] = CausalConv3d,
    ) -> None:
        super().__init__()

        def conv(source: int, kernel: int) -> nn.Module:
            if frames_alone:
                return FrameConv(source, channels_out, kernel, padding=kernel // 2)
            return causal(source, channels_out, kernel)

        self.norm1, self.conv1 = norm(channels_in), conv(channels_in, 3)
        self.norm2, self.conv2 = norm(channels_out), conv(channels_out, 3)
        self.shortcut = conv(channels_in, 1) if channels_in != channels_out else None
        with torch.no_grad():
            # a block starts close to its shortcut, so that a deep stack learns its linear part first
            next(self.conv2.parameters()).mul_(0.1)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        # one name for all: each is free when the next is there
        h = silu(self.norm1(x))
        h = self.conv1(h, cache)
        h = silu(self.norm2(h))
        h = self.conv2(h, cache)
        return plus(h, x if self.shortcut is None else self.shortcut(x, cache))


class FrameAttention(nn.Module):
    """Single-head self-attention among the positions of each frame, plus the input."""

    def __init__(self, channels: int, norm: Norm = ChannelNorm) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.qkv = Conv3d(channels, 3 * channels, 1)
        self.out = Conv3d(channels, channels, 1)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        frames, height, _ = x.shape[2:]
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (three c) t h w -> three (b t) 1 (h w) c", three=3)
        h = F.scaled_dot_product_attention(q, k, v)
        return plus(self.out(rearrange(h, "(b t) 1 (h w) c -> b c t h w", t=frames, h=height)), x)


class SpaceUpsample(nn.Module):
    """Twice the height and width (nearest), then a convolution of each frame, which may change the width."""

    def __init__(self, channels: int, channels_out: int | None = None) -> None:
        super().__init__()
        self.conv = FrameConv(channels, channels_out or channels, 3, padding=1)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        conv = self.conv
        if lean(x):
            return of_frames(channels_last(x), lambda images: doubled(images, conv.weight, conv.bias))
        out: Tensor = conv(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))
        return out


class SpaceTimeUpsample(nn.Module):
    """Twice the frames (but the first), height and width, then a causal convolution: 1 + k frames -> 1 + 2k.

    Args:
        interpolation: along time. "trilinear" blends neighbours, so it needs the next frame: in a stream the cache's
            look-ahead gives it. Space is always interpolated linearly, as in WF-VAE.
        feeds_another: a later layer interpolates in time too, so frames of look-ahead go on to it.
        time_alone: height and width stay as they are, and there is no convolution.
    """

    def __init__(
        self,
        channels: int,
        interpolation: Interpolation,
        *,
        feeds_another: bool = False,
        time_alone: bool = False,
    ) -> None:
        super().__init__()
        self.conv = None if time_alone else CausalConv3d(channels, channels)
        self.interpolation = interpolation
        self.feeds_another = feeds_another

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        onward = self._onward(cache)
        h = self._double_time(x, onward, cache)
        if cache is not None:
            # from here on the stream holds this chunk's own frames, and the look-ahead that goes on
            cache.lookahead = onward
        if self.conv is None:
            return h
        h = F.interpolate(h, scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)
        out: Tensor = self.conv(h, cache)
        return out

    def _onward(self, cache: StreamCache | None) -> int:
        """How many frames of look-ahead leave this layer."""
        if cache is None or not self.feeds_another or cache.lookahead == 0:
            return 0
        # all of the doubled look-ahead is exact but its last frame, which blends with one that isn't known yet
        return 2 * cache.lookahead - 1

    def _double_time(self, x: Tensor, onward: int, cache: StreamCache | None) -> Tensor:
        past = cache.get(self) if cache is not None else None
        lookahead = cache.lookahead if cache is not None else 0
        head = x[:, :, :1] if past is None else x[:, :, :0]
        tail = x[:, :, head.shape[2] :]
        if past is None:
            past = x[:, :, :0]
        real = tail.shape[2] - lookahead
        if cache is not None:
            # the last frame of the tail so far; none while only the head was seen, since the head is no neighbour
            cache[self] = torch.cat([past, tail[:, :, :real]], dim=2)[:, :, -1:].clone()
        around = torch.cat([past, tail], dim=2)
        if around.shape[2] == 0:
            return head
        doubled = F.interpolate(around, scale_factor=(2, 1, 1), mode=self.interpolation, **_corners(self.interpolation))
        start = 2 * past.shape[2]
        return torch.cat([head, doubled[:, :, start : start + 2 * real + onward]], dim=2)


def pad_corner(x: Tensor) -> Tensor:
    """Zeros below and to the right, for kernels of 3 with stride 2."""
    return F.pad(x, (0, 1, 0, 1))


def _corners(interpolation: Interpolation) -> dict[str, bool]:
    return {"align_corners": False} if interpolation == "trilinear" else {}


class Stack(nn.Sequential):
    """Layers one after the other, each given the stream cache."""

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        for layer in self:
            x = layer(x, cache)
        return x

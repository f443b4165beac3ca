"""What the autoencoders of LTX-Video are built of: (B, C, T, H, W) in and out, and an optional stream cache."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, nn

from videogen.vae._layers import CausalConv3d, ChannelNorm, Stack
from videogen.vae._lean import channels_last, frames_last, lean, over_rms, plus, silu
from videogen.vae._streaming import StreamCache, begins

#: sines and cosines that a timestep is embedded in
WAVES = 256


class Level(nn.Module):
    """A change of width and resolution, then residual blocks; conditioned ones share an embedding of the timestep."""

    def __init__(
        self,
        change: Sequence[nn.Module],
        width: int,
        blocks: int,
        *,
        causal: bool = True,
        conditioned: bool = False,
        noisy: bool = False,
    ) -> None:
        super().__init__()
        self.change = Stack(*change)
        self.embed = embedding(4 * width) if conditioned else None
        self.blocks = nn.ModuleList(
            ResBlock(width, width, causal=causal, conditioned=conditioned, noisy=noisy) for _ in range(blocks)
        )

    def forward(
        self,
        x: Tensor,
        cache: StreamCache | None = None,
        time: Tensor | None = None,
        source: Generator | None = None,
    ) -> Tensor:
        x = self.change(x, cache)
        shared = None if self.embed is None else self.embed(time).unflatten(0, (4, -1))
        for block in self.blocks:
            x = block(x, cache, shared, source)
        return x


class TimeConv(CausalConv3d):
    """3D convolution, causal in time, or centred: then a clip's first and last frames are repeated."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, *, causal: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride)
        self.causal = causal

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        if self.causal:
            return super().forward(x, cache)
        side = self.pad // 2
        out: Tensor = self.conv(F.pad(x, (0, 0, 0, 0, side, side), mode="replicate"))
        return out


class ResBlock(nn.Module):
    """norm, SiLU, convolution, twice, plus the input; conditioned blocks shift and scale what the norms give.

    Noisy ones add noise to what each convolution gives, times a learned size of each channel, as StyleGAN does
    (https://arxiv.org/abs/1812.04948, section 2).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        causal: bool = True,
        conditioned: bool = False,
        noisy: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = TimeConv(channels_in, channels_out, causal=causal)
        self.conv2 = TimeConv(channels_out, channels_out, causal=causal)
        self.scale_shift_table = table(4, channels_in) if conditioned else None
        self.noise1, self.noise2 = (nn.Parameter(torch.zeros(channels_out)) if noisy else None for _ in range(2))
        self.shortcut = None
        if channels_in != channels_out:
            self.norm, self.shortcut = ChannelNorm(channels_in), TimeConv(channels_in, channels_out, 1)

    def forward(
        self,
        x: Tensor,
        cache: StreamCache | None = None,
        time: Tensor | None = None,
        source: Generator | None = None,
    ) -> Tensor:
        first, second = None, None
        if self.scale_shift_table is not None:
            assert time is not None
            first, second = (time + self.scale_shift_table).chunk(2)
        # one name for all: each is free when the next is there
        h = silu(modulated(x, first))
        h = with_noise(self.conv1(h, cache), self.noise1, source)
        h = silu(modulated(h, second))
        h = with_noise(self.conv2(h, cache), self.noise2, source)
        return plus(h, x if self.shortcut is None else self.shortcut(self.norm(x), cache))


class Downsample(nn.Module):
    """Fold positions into channels after a convolution, plus the input folded, averaged over groups of channels.

    The residual autoencoding of DC-AE (arXiv 2410.10733), in time too, where a clip's first frame counts twice.
    """

    def __init__(self, channels_in: int, channels_out: int, strides: tuple[int, int, int]) -> None:
        super().__init__()
        folded = math.prod(strides)
        if channels_out % folded or folded * channels_in % channels_out:
            raise ValueError(
                f"a downsampler of {'x'.join(map(str, strides))} can't fold {channels_in} channels to {channels_out}: "
                f"use a multiple of {folded} that divides {folded * channels_in}"
            )
        self.strides = dict(zip(("dt", "dy", "dx"), strides, strict=True))
        self.channels_out, self.conv = channels_out, TimeConv(channels_in, channels_out // folded)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        if self.strides["dt"] > 1 and begins(self, cache):
            x = torch.cat([x[:, :, :1], x], dim=2)
        groups = rearrange(self._fold(x), "b (c group) t h w -> b c group t h w", c=self.channels_out)
        return self._fold(self.conv(x, cache)) + groups.mean(2)

    def _fold(self, x: Tensor) -> Tensor:
        folded: Tensor = rearrange(x, "b c (t dt) (h dy) (w dx) -> b (c dt dy dx) t h w", **self.strides)
        return folded


class Upsample(nn.Module):
    """Twice the frames (but the first), height and width: a convolution's channels unfold into positions.

    Args:
        residual: the input unfolds too, repeated to as many channels, and is added.
    """

    def __init__(self, channels_in: int, channels_out: int, *, causal: bool, residual: bool) -> None:
        super().__init__()
        if residual and (channels_in % 8 or 8 * channels_out % channels_in):
            raise ValueError(
                f"upsample_residual can't unfold {channels_in} channels to {channels_out}: use multiples of 8, and "
                f"one that divides {8 * channels_out}"
            )
        self.repeats = 8 * channels_out // channels_in if residual else 0
        self.conv = TimeConv(channels_in, 8 * channels_out, causal=causal)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        h = _unfold(self.conv(x, cache))
        if self.repeats:
            h = h + _unfold(x).repeat(1, self.repeats, 1, 1, 1)
        return h[:, :, 1:] if begins(self, cache) else h


def modulated(x: Tensor, shift_scale: Tensor | None = None) -> Tensor:
    """Each position over the root mean square of its channels; then scaled and shifted, if (2, C) say how."""
    if lean(x):
        h = over_rms(channels_last(x), 1e-8)
    else:
        h = F.rms_norm(x.movedim(1, -1), x.shape[1:2], eps=1e-8).movedim(-1, 1)
    if shift_scale is None:
        return h
    shift, scale = shift_scale[..., None, None, None].unbind()
    return h.mul_(1 + scale).add_(shift) if lean(x) else h * (1 + scale) + shift


def with_noise(x: Tensor, size: Tensor | None, source: Generator | None) -> Tensor:
    """Plus one normal value a position, the same for all frames and clips, times the size of each channel (C,)."""
    if size is None:
        return x
    # drawn where the source is, so that the same seed gives the same noise on every device
    noise = torch.randn(x.shape[-2:], generator=source, device="cpu").to(x)
    return x + noise * size[:, None, None, None]


def embedding(width: int) -> nn.Sequential:
    """From the waves of a timestep to a width."""
    return nn.Sequential(nn.Linear(WAVES, width), nn.SiLU(), nn.Linear(width, width))


def table(rows: int, width: int) -> nn.Parameter:
    """What is learned beside the embedding of the timestep: rows of shift and scale, in turn."""
    return nn.Parameter(torch.randn(rows, width) / width**0.5)


def waves(timestep: Tensor) -> Tensor:
    """Cosines, then sines, of a timestep (1,) at frequencies from 1 down to 1 / 10000 (256,) (arXiv 1706.03762)."""
    steps = torch.arange(WAVES // 2, device=timestep.device) / (WAVES // 2)
    angles = timestep.float() * torch.exp(-math.log(10_000) * steps)
    return torch.cat([angles.cos(), angles.sin()])


def _unfold(x: Tensor) -> Tensor:
    """(B, 8C, T, H, W) -> (B, C, 2T, 2H, 2W)."""
    if lean(x):
        # what follows wants the channels last
        return frames_last(rearrange(x, "b (c dt dy dx) t h w -> b (t dt) (h dy) (w dx) c", dt=2, dy=2, dx=2))
    return rearrange(x, "b (c dt dy dx) t h w -> b c (t dt) (h dy) (w dx)", dt=2, dy=2, dx=2)

"""Layers of Mochi's autoencoder; all take (B, C, T, H, W) and an optional stream cache."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._layers import CausalConv3d, Norm
from videogen.vae._streaming import StreamCache, begins

#: of the waves of each colour that the encoder sees: 2^6 and 2^7 turns a unit
OCTAVES = (6, 7)
#: positions whose attention along time is computed at once: CUDA's kernels take less than 2^16
POSITIONS = 2**15


class EdgeConv3d(CausalConv3d):
    """3D convolution that looks only backward in time; beyond a clip's borders its border values go on."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int, int] = 3,
        stride: int | tuple[int, int, int] = 1,
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding=0)
        _, high, wide = self.conv.kernel_size
        self.border = (*((wide - 1) // 2,) * 2, *((high - 1) // 2,) * 2)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        past = None if cache is None else cache.get(self)
        x = F.pad(x, (*self.border, self.pad if past is None else 0, 0), mode="replicate")
        if self.pad and cache is not None:
            x = x if past is None else torch.cat([past, x], dim=2)
            # a copy: a view would keep the whole chunk in memory
            cache[self] = x[:, :, x.shape[2] - self.keep :].clone()
        out: Tensor = self.conv(x)
        return out


class TimeAttention(nn.Module):
    """Attention of each position to itself in this frame and those before, plus the input.

    Queries and keys have length 1 before they are compared. In a stream the keys and values of all frames so far are
    kept, since all of them are seen.

    Raises:
        ValueError: heads that don't divide the channels.
    """

    def __init__(self, channels: int, norm: Norm, head_dim: int) -> None:
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"{channels} channels do not split into heads of {head_dim}: use a width it divides")
        self.norm, self.head_dim = norm(channels), head_dim
        self.qkv, self.out = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        frames, height, width = x.shape[2:]
        qkv = self.qkv(rearrange(self.norm(x), "b c t h w -> (b h w) t c"))
        q, k, v = rearrange(qkv, "n t (three heads d) -> three n heads t d", three=3, d=self.head_dim)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        if cache is not None:
            past = cache.get(self)
            seen = torch.stack([k, v])
            cache[self] = seen = seen if past is None else torch.cat([past, seen], dim=3)
            k, v = seen
        # a chunk's first frame sees what was before it too
        mask = torch.ones(frames, k.shape[2], dtype=torch.bool, device=x.device).tril(k.shape[2] - frames)
        parts = zip(*(tensor.split(POSITIONS) for tensor in (q, k, v)), strict=True)
        h = torch.cat([F.scaled_dot_product_attention(q, k, v, mask) for q, k, v in parts])
        out = self.out(rearrange(h, "n heads t d -> n t (heads d)"))
        found: Tensor = x + rearrange(out, "(b h w) t c -> b c t h w", h=height, w=width)
        return found


class Upsample(nn.Module):
    """Channels to positions: so many times the frames, height and width, (B, C, T, H, W) -> (B, C', t T, s H, s W).

    Args:
        trim: at a clip's start, whose first frame stands alone, the frames before it are dropped.
    """

    def __init__(self, channels_in: int, channels_out: int, time: int, space: int, *, trim: bool) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels_in, channels_out * time * space**2, 1)
        self.strides, self.trim = {"dt": time, "dy": space, "dx": space}, trim

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        out: Tensor = rearrange(self.proj(x), "b (c dt dy dx) t h w -> b c (t dt) (h dy) (w dx)", **self.strides)
        return out[:, :, self.strides["dt"] - 1 :] if self.trim and begins(self, cache) else out


def waves(video: Tensor, octaves: Sequence[int] = OCTAVES) -> Tensor:
    """A video and the sines and cosines of its values, (B, C, T, H, W) -> (B, C (1 + 2 octaves), T, H, W).

    After "Fourier Features Let Networks Learn High Frequency Functions" (arXiv 2006.10739).
    """
    # half precision can't tell the turns of the highest octave apart
    values = video.to(torch.promote_types(video.dtype, torch.float32))
    turns = 2 * math.pi * 2.0 ** torch.tensor(octaves, dtype=values.dtype, device=video.device)
    angles = rearrange(values[:, :, None] * turns.view(-1, 1, 1, 1), "b c o t h w -> b (c o) t h w")
    return torch.cat([values, angles.sin(), angles.cos()], dim=1).to(video.dtype)

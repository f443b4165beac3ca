"""The halves of LTX-Video's autoencoder, between patches of pixels and latents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from videogen.vae._lean import silu
from videogen.vae._ltx import Downsample, Level, ResBlock, TimeConv, Upsample, embedding, modulated, table, waves
from videogen.vae._streaming import StreamCache

Downsampling = Literal["none", "conv", "spatial", "temporal", "spatiotemporal"]
#: how many times shorter, lower and narrower each kind makes a clip
STRIDES = {
    "none": (1, 1, 1),
    "conv": (2, 2, 2),
    "spatial": (1, 2, 2),
    "temporal": (2, 1, 1),
    "spatiotemporal": (2, 2, 2),
}


class Encoder(nn.Module):
    """Patches (B, 3 p^2, T, h, w) -> mean, and one log-variance for all channels (B, C + 1, t, h, w)."""

    def __init__(
        self,
        pixels: int,
        latent: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        downsamplers: Sequence[Downsampling],
    ) -> None:
        super().__init__()
        self.conv_in = TimeConv(pixels, widths[0])
        levels = [Level((), widths[0], blocks[0])]
        for (source, width), count, kind in zip(pairwise(widths), blocks[1:], downsamplers, strict=True):
            levels.append(Level(_downsampling(source, width, kind), width, count))
        self.levels, self.out = nn.ModuleList(levels), TimeConv(widths[-1], latent + 1)

    def forward(self, patches: Tensor, cache: StreamCache | None = None) -> Tensor:
        h = self.conv_in(patches, cache)
        for level in self.levels:
            h = level(h, cache)
        moments: Tensor = self.out(silu(modulated(h)), cache)
        return moments


class Decoder(nn.Module):
    """Latents (B, C, t, h, w) -> patches (B, 3 p^2, T, h, w).

    Args:
        timestep: how noisy the latents are, if the decoder is conditioned on it.
        noisy: whether the blocks of each level and of the middle add noise.
        seed: of that noise.
    """

    time_scale: Tensor

    def __init__(
        self,
        latent: int,
        pixels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        upsamplers: Sequence[bool],
        *,
        causal: bool,
        residual: bool,
        narrows: bool,
        timestep: float | None,
        noisy: Sequence[bool],
        seed: int,
    ) -> None:
        super().__init__()
        self.timestep, conditioned = timestep, timestep is not None
        self.seed = seed if any(noisy) else None
        self.conv_in = TimeConv(latent, widths[-1], causal=causal)
        levels = [Level((), widths[-1], blocks[-1], causal=causal, conditioned=conditioned, noisy=noisy[-1])]
        coarse_first = (pairwise(reversed(widths)), reversed(blocks[:-1]), reversed(upsamplers), reversed(noisy[:-1]))
        for (source, width), count, doubles, adds in zip(*coarse_first, strict=True):
            change: list[nn.Module] = []
            if source != width and not (doubles and narrows):
                change.append(ResBlock(source, width, causal=causal))
                source = width
            if doubles:
                change.append(Upsample(source, width, causal=causal, residual=residual))
            levels.append(Level(change, width, count, causal=causal, conditioned=conditioned, noisy=adds))
        self.levels, self.out = nn.ModuleList(levels), TimeConv(widths[0], pixels, causal=causal)
        if conditioned:
            self.register_buffer("time_scale", torch.tensor([1000.0]))
            self.embed, self.scale_shift_table = embedding(2 * widths[0]), table(2, widths[0])

    def forward(self, latents: Tensor, cache: StreamCache | None = None) -> Tensor:
        time = None if self.timestep is None else waves(self.timestep * self.time_scale).to(latents)
        # begun anew for each chunk of a stream: all frames have the same noise
        source = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        h = self.conv_in(latents, cache)
        for level in self.levels:
            h = level(h, cache, time, source)
        h = modulated(h, None if time is None else self.embed(time).unflatten(0, (2, -1)) + self.scale_shift_table)
        patches: Tensor = self.out(silu(h), cache)
        return patches


def _downsampling(source: int, width: int, kind: Downsampling) -> list[nn.Module]:
    if kind not in ("none", "conv"):
        return [Downsample(source, width, STRIDES[kind])]
    down = [TimeConv(source, source, stride=2)] if kind == "conv" else []
    return [*down, *([ResBlock(source, width)] if source != width else [])]

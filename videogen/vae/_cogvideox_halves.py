"""The two halves of CogVideoX's autoencoder, each on one batch of a clip."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from videogen.vae._cogvideox import Downsample, SpatialNorm, SpatialResBlock, Upsample
from videogen.vae._layers import CausalConv3d, Norm, Stack
from videogen.vae._lean import silu
from videogen.vae._levels import res_blocks
from videogen.vae._streaming import StreamCache

#: the encoder's first and the decoder's first so many changes of resolution are in time too
TIME_STEPS = 2


class Encoder(nn.Module):
    """A batch of video (B, 3, [1 +] 8k, H, W) -> moments (B, 2C, [1 +] 2k, H/8, W/8)."""

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, norm: Norm) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(3, widths[0])
        levels = res_blocks(widths[0], widths[0], blocks, norm)
        for i, (source, width) in enumerate(pairwise(widths)):
            levels += [Downsample(source, time=i < TIME_STEPS), *res_blocks(source, width, blocks, norm)]
        self.levels = Stack(*levels, *res_blocks(widths[-1], widths[-1], 2, norm))
        self.norm, self.out = norm(widths[-1]), CausalConv3d(widths[-1], 2 * latent)

    def forward(self, video: Tensor, cache: StreamCache) -> Tensor:
        h = self.levels(self.conv_in(video, cache), cache)
        moments: Tensor = self.out(silu(self.norm(h)), cache)
        return moments


class Decoder(nn.Module):
    """A batch of latents (B, C, [1 +] 2k, H/8, W/8) -> video (B, 3, [1 +] 8k, H, W)."""

    def __init__(self, latent: int, widths: Sequence[int], blocks: int, groups: int) -> None:
        super().__init__()
        norm = functools.partial(SpatialNorm, latent=latent, groups=groups)
        self.conv_in = CausalConv3d(latent, widths[-1])
        # the middle and the coarsest level have one width
        levels: list[nn.Module] = [SpatialResBlock(widths[-1], widths[-1], norm=norm) for _ in range(2 + blocks)]
        for i, (source, width) in enumerate(pairwise(reversed(widths))):
            levels.append(Upsample(source, time=i < TIME_STEPS))
            sources = [source, *[width] * blocks][:blocks]
            levels += [SpatialResBlock(channels, width, norm=norm) for channels in sources]
        self.levels = nn.ModuleList(levels)
        self.norm, self.out = norm(widths[0]), CausalConv3d(widths[0], 3)

    def forward(self, latents: Tensor, cache: StreamCache) -> Tensor:
        h = self.conv_in(latents, cache)
        for layer in self.levels:
            h = layer(h, cache, latents) if isinstance(layer, SpatialResBlock) else layer(h, cache)
        video: Tensor = self.out(silu(self.norm(h, latents)), cache)
        return video

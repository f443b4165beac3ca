"""The halves of DC-AE, between frames and latents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from videogen.vae._dc import (
    ChannelRMSNorm,
    Downsample,
    Downsampling,
    EfficientViTBlock,
    ResBlock,
    Upsample,
    Upsampling,
    averaged,
    check_split,
    repeated,
)

#: channels of a head, and the scales of queries, keys and values
Attention = tuple[int, tuple[int, ...]]


class Encoder(nn.Module):
    """Frames (N, 3, H, W) -> latents (N, C, H/32, W/32)."""

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        kinds: Sequence[bool],
        attention: Attention,
        downsample: Downsampling,
        shortcut: bool,
    ) -> None:
        super().__init__()
        check_split("encoder_shortcut", widths[-1], latent, shortcut)
        self.latent, self.shortcut = latent, shortcut
        self.conv_in = (
            nn.Conv2d(3, widths[0], 3, padding=1) if blocks[0] else Downsample(3, widths[1], downsample, shortcut=False)
        )
        levels = [_blocks(*level, attention) for level in zip(widths, blocks, kinds, strict=True)]
        for level, (source, width) in zip(levels, pairwise(widths), strict=False):
            # a level without blocks is the convolution of the pixels, which has halved them
            if len(level):
                level.append(Downsample(source, width, downsample))
        self.levels = nn.Sequential(*levels)
        self.out = nn.Conv2d(widths[-1], latent, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        h = self.levels(self.conv_in(frames))
        latents: Tensor = self.out(h)
        return latents + averaged(h, self.latent) if self.shortcut else latents


class Decoder(nn.Module):
    """Latents (N, C, H/32, W/32) -> frames (N, 3, H, W); the levels coarsest first."""

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        kinds: Sequence[bool],
        attention: Attention,
        upsample: Upsampling,
        *,
        batch_norm: bool,
        shortcut: bool,
        activation: nn.Module,
    ) -> None:
        super().__init__()
        check_split("decoder_shortcut", widths[-1], latent, shortcut)
        self.shortcut, self.conv_in = shortcut, nn.Conv2d(latent, widths[-1], 3, padding=1)
        levels = [_blocks(*level, attention, batch_norm) for level in zip(widths, blocks, kinds, strict=True)]
        for level, (width, source) in zip(levels, pairwise(widths), strict=False):
            if len(level):
                level.insert(0, Upsample(source, width, upsample))
        self.levels = nn.Sequential(*reversed(levels))
        finest = widths[0] if blocks[0] else widths[1]
        self.norm, self.activation = ChannelRMSNorm(finest), activation
        self.out = nn.Conv2d(finest, 3, 3, padding=1) if blocks[0] else Upsample(finest, 3, upsample, shortcut=False)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.conv_in(latents)
        if self.shortcut:
            h = h + repeated(latents, h.shape[1])
        frames: Tensor = self.out(self.activation(self.norm(self.levels(h))))
        return frames


def _blocks(width: int, count: int, attends: bool, attention: Attention, batch_norm: bool = False) -> nn.Sequential:
    if attends:
        return nn.Sequential(*(EfficientViTBlock(width, *attention) for _ in range(count)))
    return nn.Sequential(*(ResBlock(width, batch_norm=batch_norm) for _ in range(count)))

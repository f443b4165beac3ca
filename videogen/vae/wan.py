"""Wan's autoencoder: causal convolutions and RMS norms, 4x8x8 strides (2.1), or 4x16x16 with shortcuts (2.2).

After "Wan: Open and Advanced Large-Scale Video Generative Models" (arXiv 2503.20314).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from einops import rearrange
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._layers import SpaceUpsample, Stack
from videogen.vae._lean import silu
from videogen.vae._levels import SpaceDownsample
from videogen.vae._streaming import CausalVAE, StreamCache
from videogen.vae._wan import (
    CausalConv3d,
    FoldedMean,
    Level,
    RMSNorm,
    TimeDownsample,
    TimeUpsample,
    Unfolded,
    middle,
    res_blocks,
)


@VAES.register("wan")
class WanVAE(CausalVAE):
    """Causal VAE whose first frame passes every change of frame rate untouched (Wan, https://arxiv.org/abs/2503.20314).

    The defaults are Wan 2.1's. That of Wan 2.2 TI2V-5B has 48 latent channels, widths of 160 (encoder) and 256
    (decoder), patches of 2, and shortcuts.

    Args:
        latent_channels: channels of the latents.
        base_channels: width of the encoder at full resolution.
        decoder_channels: width of the decoder at full resolution; as the encoder's if 0.
        channel_multipliers: width of each level as a multiple of that, finest first; one level more than there are
            halvings of height and width.
        num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
        time_steps: whether each halving of height and width, finest first, halves the frames too.
        shortcuts: past each level its input is added to its output, folded or unfolded to the new resolution (2.2).
        patch_size: pixels along height and width that enter as channels of one position.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: levels and time_steps that don't fit, or widths that can't be halved or folded.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 16,
        base_channels: int = 96,
        decoder_channels: int = 0,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        time_steps: tuple[bool, ...] = (False, True, True),
        shortcuts: bool = False,
        patch_size: int = 1,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if len(channel_multipliers) != len(time_steps) + 1:
            raise ValueError(
                f"channel_multipliers={tuple(channel_multipliers)} has {len(channel_multipliers)} levels, so there are "
                f"{len(channel_multipliers) - 1} steps between them: time_steps says {len(time_steps)}"
            )
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=2 ** sum(time_steps),
            spatial_stride=patch_size * 2 ** len(time_steps),
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        self.patch_size, pixels = patch_size, 3 * patch_size**2
        encoder_widths = [base_channels * multiplier for multiplier in (1, *channel_multipliers)]
        decoder_widths = [(decoder_channels or base_channels) * multiplier for multiplier in channel_multipliers]
        self.encoder = Encoder(pixels, latent_channels, encoder_widths, num_res_blocks, time_steps, shortcuts)
        self.decoder = Decoder(latent_channels, pixels, decoder_widths, num_res_blocks + 1, time_steps, shortcuts)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w)."""
        size = self.patch_size
        patches = rearrange(video, "b c t (h dy) (w dx) -> b (c dx dy) t h w", dy=size, dx=size)
        moments: Tensor = self.encoder(patches, cache)
        return moments

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W)."""
        size = self.patch_size
        patches: Tensor = self.decoder(latents, cache)
        return rearrange(patches, "b (c dx dy) t h w -> b c t (h dy) (w dx)", dy=size, dx=size)


class Encoder(nn.Module):
    """Patches (B, 3 p^2, 1 + 4k, H/p, W/p) -> moments (B, 2C, 1 + k, H/8p, W/8p).

    Args:
        widths: of the first convolution and then of each level, finest first.
    """

    def __init__(
        self, pixels: int, latent: int, widths: Sequence[int], blocks: int, time_steps: Sequence[bool], shortcuts: bool
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(pixels, widths[0])
        levels = []
        for level, (source, width) in enumerate(pairwise(widths)):
            layers, time, space = res_blocks(source, width, blocks), 1, 1
            if level < len(time_steps):
                layers, space = [*layers, SpaceDownsample(width)], 2
                if time_steps[level]:
                    layers, time = [*layers, TimeDownsample(width)], 2
            levels.append(Level(layers, FoldedMean(source, width, time, space) if shortcuts else None))
        self.levels, self.middle = Stack(*levels), middle(widths[-1])
        self.norm, self.out = RMSNorm(widths[-1]), CausalConv3d(widths[-1], 2 * latent)
        self.quant = nn.Conv3d(2 * latent, 2 * latent, 1)

    def forward(self, patches: Tensor, cache: StreamCache | None) -> Tensor:
        h = self.middle(self.levels(self.conv_in(patches, cache), cache), cache)
        moments: Tensor = self.quant(self.out(silu(self.norm(h)), cache))
        return moments


class Decoder(nn.Module):
    """Latents (B, C, 1 + k, H/8p, W/8p) -> patches (B, 3 p^2, 1 + 4k, H/p, W/p).

    Args:
        widths: of each level, finest first. Without shortcuts the upsampling halves a level's width as it leaves it.
        time_steps: finest first.
    """

    def __init__(
        self, latent: int, pixels: int, widths: Sequence[int], blocks: int, time_steps: Sequence[bool], shortcuts: bool
    ) -> None:
        super().__init__()
        self.quant = nn.Conv3d(latent, latent, 1)
        self.conv_in, self.middle = CausalConv3d(latent, widths[-1]), middle(widths[-1])
        levels, source = [], widths[-1]
        for width, time in zip(reversed(widths[1:]), reversed(time_steps), strict=True):
            if not shortcuts and width % 2:
                raise ValueError(f"the decoder's level of {width} channels is halved as it is left: use an even width")
            leaves = width if shortcuts else width // 2
            layers = res_blocks(source, width, blocks)
            layers += [*([TimeUpsample(width)] if time else []), SpaceUpsample(width, leaves)]
            levels.append(Level(layers, Unfolded(source, width, 2 if time else 1) if shortcuts else None))
            source = leaves
        levels.append(Level(res_blocks(source, widths[0], blocks)))
        self.levels = Stack(*levels)
        self.norm, self.out = RMSNorm(widths[0]), CausalConv3d(widths[0], pixels)

    def forward(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        h = self.middle(self.conv_in(self.quant(latents), cache), cache)
        patches: Tensor = self.out(silu(self.norm(self.levels(h, cache))), cache)
        return patches

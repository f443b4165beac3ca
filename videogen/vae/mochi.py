"""Mochi's autoencoder: causal convolutions, norms of single frames, 6x8x8 strides, a decoder larger than the encoder.

After the AsymmVAE of Mochi 1 (https://github.com/genmoai/mochi), which has no paper.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._frame_norm import FrameNorm
from videogen.vae._layers import Norm, ResBlock, Stack
from videogen.vae._levels import GROUPS
from videogen.vae._mochi import OCTAVES, EdgeConv3d, TimeAttention, Upsample, waves
from videogen.vae._streaming import CausalVAE, StreamCache, begins

Trim = Literal["levels", "end"]


@VAES.register("mochi")
class MochiVAE(CausalVAE):
    """Causal VAE whose decoder is wider than its encoder, 12 channels (https://github.com/genmoai/mochi).

    The encoder sees waves of each pixel's values beside them, and its attention sees all earlier frames: what a stream
    keeps of them grows with the clip. The decoder has no attention, and streams in flat memory.

    Args:
        latent_channels: channels of the latents.
        encoder_widths: width of each level of the encoder, finest first.
        decoder_widths: width of each level of the decoder, finest first.
        num_res_blocks: residual blocks at full resolution, then behind each downsampling, then in the middle, for the
            encoder; the decoder has as many, in reverse.
        time_strides: how many times fewer frames each downsampling leaves, finest first.
        space_strides: how many times less height and width.
        encoder_attention: whether attention along time follows the encoder's residual blocks, for each group of them.
        head_dim: channels of a head of that attention.
        norm_groups: groups of the normalisation over a frame.
        trim: where the frames that come out before a clip's first are dropped: behind each of the decoder's "levels",
            as its authors do it, or at the "end", as diffusers does with the same weights: the first frames differ.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: tuples whose lengths don't fit, widths that don't split into groups or heads, an unknown trim.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 12,
        encoder_widths: tuple[int, ...] = (64, 128, 256, 384),
        decoder_widths: tuple[int, ...] = (128, 256, 512, 768),
        num_res_blocks: tuple[int, ...] = (3, 3, 4, 6, 3),
        time_strides: tuple[int, ...] = (1, 2, 3),
        space_strides: tuple[int, ...] = (2, 2, 2),
        encoder_attention: tuple[bool, ...] = (False, True, True, True, True),
        head_dim: int = 32,
        norm_groups: int = GROUPS,
        trim: Trim = "levels",
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        steps = len(time_strides)
        for name, values, count in (
            ("space_strides", space_strides, steps),
            ("encoder_widths", encoder_widths, steps + 1),
            ("decoder_widths", decoder_widths, steps + 1),
            ("num_res_blocks", num_res_blocks, steps + 2),
            ("encoder_attention", encoder_attention, steps + 2),
        ):
            if len(values) != count:
                raise ValueError(f"{name} has {len(values)} values for {steps} time_strides: give {count}")
        if trim not in ("levels", "end"):
            raise ValueError(f"trim={trim!r} is unknown: choose levels or end")
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=math.prod(time_strides),
            spatial_stride=math.prod(space_strides),
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        norm = functools.partial(FrameNorm, groups=norm_groups, eps=1e-5)
        attend = functools.partial(TimeAttention, norm=norm, head_dim=head_dim)
        strides = list(zip(time_strides, space_strides, strict=True))
        self.encoder = Encoder(
            latent_channels, encoder_widths, num_res_blocks, strides, encoder_attention, norm, attend
        )
        self.decoder = Decoder(latent_channels, decoder_widths, num_res_blocks, strides, norm, trim)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w)."""
        moments: Tensor = self.encoder(video, cache)
        return moments

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W)."""
        video: Tensor = self.decoder(latents, cache)
        return video


class Encoder(nn.Module):
    """Video (B, 3, 1 + 6k, H, W) -> moments (B, 2C, 1 + k, H/8, W/8).

    Args:
        strides: (time, space) of each downsampling, finest first.
        attention: whether `attend` follows the blocks of each group.
        attend: makes the attention of a number of channels.
    """

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[tuple[int, int]],
        attention: Sequence[bool],
        norm: Norm,
        attend: Norm,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(3 * (1 + 2 * len(OCTAVES)), widths[0], 1)

        def group(width: int, index: int) -> list[nn.Module]:
            extra = [attend] if attention[index] else []
            return [layer for _ in range(blocks[index]) for layer in (_block(width, norm), *(a(width) for a in extra))]

        levels = group(widths[0], 0)
        for index, ((source, width), (time, space)) in enumerate(zip(pairwise(widths), strides, strict=True), 1):
            stride = (time, space, space)
            levels += [EdgeConv3d(source, width, stride, stride), *group(width, index)]
        self.levels = Stack(*levels, *group(widths[-1], -1))
        self.norm, self.out = norm(widths[-1]), nn.Conv3d(widths[-1], 2 * latent, 1, bias=False)

    def forward(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        h = self.levels(self.conv_in(waves(video)), cache)
        moments: Tensor = self.out(F.silu(self.norm(h)))
        return moments


class Decoder(nn.Module):
    """Latents (B, C, 1 + k, H/8, W/8) -> video (B, 3, 1 + 6k, H, W).

    Args:
        strides: (time, space) of each upsampling, finest first.
    """

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[tuple[int, int]],
        norm: Norm,
        trim: Trim,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(latent, widths[-1], 1)
        levels = [_block(widths[-1], norm) for _ in range(blocks[-1])]
        coarse_first = (pairwise(reversed(widths)), reversed(blocks[1:-1]), reversed(strides))
        for (source, width), count, (time, space) in zip(*coarse_first, strict=True):
            levels += [_block(source, norm) for _ in range(count)]
            levels.append(Upsample(source, width, time, space, trim=trim == "levels"))
        self.levels = Stack(*levels, *(_block(widths[0], norm) for _ in range(blocks[0])))
        self.out = nn.Conv3d(widths[0], 3, 1)
        self.dropped = math.prod(time for time, _ in strides) - 1 if trim == "end" else 0

    def forward(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        h = self.levels(self.conv_in(latents), cache)
        if self.dropped and begins(self, cache):
            h = h[:, :, self.dropped :]
        video: Tensor = self.out(F.silu(h))
        return video


def _block(width: int, norm: Norm) -> nn.Module:
    return ResBlock(width, width, norm=norm, causal=EdgeConv3d)

"""The image autoencoder of Stable Diffusion on each frame of a video: time is neither compressed nor seen.

After "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._layers import FrameConv, Norm, SpaceUpsample, Stack
from videogen.vae._levels import GROUPS, SpaceDownsample, make_norm, middle, res_blocks
from videogen.vae._streaming import CausalVAE, StreamCache


@VAES.register("framewise", aliases=("sd",))
class FramewiseVAE(CausalVAE):
    """The 2D KL autoencoder of Stable Diffusion, frame by frame, 1x8x8 strides (https://arxiv.org/abs/2112.10752).

    Args:
        latent_channels: channels of the latents.
        base_channels: width at full resolution.
        channel_multipliers: width of each level as a multiple of base_channels, finest first; one level more than
            there are halvings of height and width.
        num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
        norm_groups: groups of the normalisation over each frame.
        use_attention: attention among the positions of a frame at the coarsest level.
        use_quant_conv: a 1x1 convolution on each side of the latents; Stable Diffusion 3 and Flux have none.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: no levels, or widths that don't split into the groups.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 4,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        norm_groups: int = GROUPS,
        use_attention: bool = True,
        use_quant_conv: bool = True,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if not channel_multipliers:
            raise ValueError("channel_multipliers=() has 0 levels: give at least 1")
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=1,
            spatial_stride=2 ** (len(channel_multipliers) - 1),
            first_frame_alone=False,
            shift=tuple(latent_shift) or (0.0,) * latent_channels,
            scale=tuple(latent_scale) or (1.0,) * latent_channels,
        )
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        norm = make_norm("group", norm_groups)
        self.encoder = Encoder(latent_channels, widths, num_res_blocks, norm, use_attention, use_quant_conv)
        self.decoder = Decoder(latent_channels, widths, num_res_blocks + 1, norm, use_attention, use_quant_conv)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, T, h, w)."""
        return _frame_by_frame(self.encoder, video)

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, T, h, w) -> video (B, 3, T, H, W)."""
        return _frame_by_frame(self.decoder, latents)


class Encoder(nn.Module):
    """Frames (N, 3, 1, H, W) -> moments (N, 2C, 1, H/8, W/8)."""

    def __init__(
        self, latent: int, widths: Sequence[int], blocks: int, norm: Norm, attention: bool, quant: bool
    ) -> None:
        super().__init__()
        self.conv_in = FrameConv(3, widths[0], 3, padding=1)
        levels = res_blocks(widths[0], widths[0], blocks, norm, frames_alone=True)
        for source, width in pairwise(widths):
            levels += [SpaceDownsample(source), *res_blocks(source, width, blocks, norm, frames_alone=True)]
        self.levels = Stack(*levels)
        self.middle = middle(widths[-1], norm, attention=attention, frames_alone=True)
        self.norm, self.out = norm(widths[-1]), FrameConv(widths[-1], 2 * latent, 3, padding=1)
        self.quant = FrameConv(2 * latent, 2 * latent, 1) if quant else nn.Identity()

    def forward(self, frames: Tensor) -> Tensor:
        h = self.middle(self.levels(self.conv_in(frames)))
        moments: Tensor = self.quant(self.out(F.silu(self.norm(h))))
        return moments


class Decoder(nn.Module):
    """Latents (N, C, 1, H/8, W/8) -> frames (N, 3, 1, H, W)."""

    def __init__(
        self, latent: int, widths: Sequence[int], blocks: int, norm: Norm, attention: bool, quant: bool
    ) -> None:
        super().__init__()
        self.quant = FrameConv(latent, latent, 1) if quant else nn.Identity()
        self.conv_in = FrameConv(latent, widths[-1], 3, padding=1)
        self.middle = middle(widths[-1], norm, attention=attention, frames_alone=True)
        levels = res_blocks(widths[-1], widths[-1], blocks, norm, frames_alone=True)
        for source, width in pairwise(reversed(widths)):
            levels += [SpaceUpsample(source), *res_blocks(source, width, blocks, norm, frames_alone=True)]
        self.levels = Stack(*levels)
        self.norm, self.out = norm(widths[0]), FrameConv(widths[0], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.levels(self.middle(self.conv_in(self.quant(latents))))
        frames: Tensor = self.out(F.silu(self.norm(h)))
        return frames


def _frame_by_frame(half: nn.Module, x: Tensor) -> Tensor:
    """Run one half on each frame as a clip of its own, (B, C, T, H, W) -> (B, C', T, H', W')."""
    # a batch of one-frame clips: its group norms see one frame, and the video layers serve as they are
    out: Tensor = half(rearrange(x, "b c t h w -> (b t) c 1 h w"))
    return rearrange(out, "(b t) c 1 h w -> b c t h w", b=x.shape[0])

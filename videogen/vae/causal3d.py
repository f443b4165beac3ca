"""OD-VAE: a causal 3D convolutional video autoencoder, the one of Open-Sora-Plan v1.2, and its forerunner of v1.0.

After "OD-VAE: An Omni-dimensional Video Compressor for Improving Latent Video Diffusion Model" (arXiv 2409.01199).
Between them lies v1.1: time is halved after height and width as in v1.0, but learned; fine levels are 2D as in v1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from einops import rearrange
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._causal3d import Attention, TimeResampling, make_middle, space_time_downsample, space_time_upsample
from videogen.vae._layers import CausalConv3d, FrameConv, Interpolation, Norm, SpaceUpsample, Stack
from videogen.vae._lean import silu
from videogen.vae._levels import GROUPS, NormKind, SpaceDownsample, make_norm, res_blocks
from videogen.vae._streaming import CausalVAE, StreamCache

#: the last so many changes of resolution are in time too
TIME_STEPS = 2


@VAES.register("causal3d", aliases=("odvae",))
class Causal3DVAE(CausalVAE):
    """Causal 3D convolutions, 4x8x8 strides, fine levels of the encoder 2D (OD-VAE, https://arxiv.org/abs/2409.01199).

    Args:
        latent_channels: channels of the latents.
        base_channels: width at full resolution.
        channel_multipliers: width of each level as a multiple of base_channels, finest first; one level more than
            there are halvings of height and width. The last two halvings are of time too.
        num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
        norm: "group", as published, takes its statistics over the whole clip, so a clip can't be cut into chunks;
            "channel" normalises each position alone and streams exactly.
        norm_groups: groups of norm="group".
        time_interpolation: how the decoder doubles frames; "nearest" needs no look-ahead in a stream.
        time_resampling: "conv" halves and doubles time with height and width, by one convolution; "pool", as in v1.0,
            after them and without weights, by averages of three frames and by interpolation; "mixed", as in v1.1, by
            these and by convolutions along time, in a learned proportion.
        fine_in_time: the fine levels of the encoder are causal in 3D too, as in v1.0.
        pool_early: the encoder averages frames after its first two halvings of height and width, not after its last
            two, as in v1.0; only with time_resampling="pool" and fine_in_time.
        attention: among the positions of each frame; "scrambled" reproduces v1.0, trained with a reshape that takes
            channels for frames, so positions of a clip attend by mixtures of its frames.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: fewer than 3 levels, widths that don't split into the groups, or early pooling where nothing is
            pooled or the fine levels are 2D.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 4,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        norm: NormKind = "group",
        norm_groups: int = GROUPS,
        time_interpolation: Interpolation = "trilinear",
        time_resampling: TimeResampling = "conv",
        fine_in_time: bool = False,
        pool_early: bool = False,
        attention: Attention = "frame",
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if len(channel_multipliers) <= TIME_STEPS:
            raise ValueError(
                f"channel_multipliers={tuple(channel_multipliers)} has {len(channel_multipliers)} levels, but time is "
                f"halved {TIME_STEPS} times: give at least {TIME_STEPS + 1}"
            )
        if pool_early and (time_resampling != "pool" or not fine_in_time):
            raise ValueError(
                f"pool_early with time_resampling={time_resampling!r} and fine_in_time={fine_in_time}: early levels "
                "are pooled over time only with time_resampling='pool' and fine_in_time=true"
            )
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=2**TIME_STEPS,
            spatial_stride=2 ** (len(channel_multipliers) - 1),
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        self.lookahead = 1 if time_interpolation == "trilinear" else 0
        if norm == "group":
            self.whole_clip_only = (
                "norm='group' takes mean and variance over all of its frames. Give it whole (encode, decode, or a "
                "stream of one chunk), or build and train the VAE with norm='channel', which streams exactly"
            )
        elif attention == "scrambled":
            self.whole_clip_only = (
                "attention='scrambled' mixes all of its frames. Give it whole (encode, decode, or a stream of one "
                "chunk), or build and train the VAE with attention='frame', which streams exactly"
            )
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        make = make_norm(norm, norm_groups)
        self.encoder = Encoder(
            latent_channels,
            widths,
            num_res_blocks,
            make,
            time_resampling,
            attention,
            fine_in_time=fine_in_time,
            pool_early=pool_early,
        )
        self.decoder = Decoder(
            latent_channels, widths, num_res_blocks + 1, make, time_resampling, attention, time_interpolation
        )

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
    """Video (B, 3, 1 + 4k, H, W) -> moments (B, 2C, 1 + k, H/8, W/8)."""

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        blocks: int,
        norm: Norm,
        time_resampling: TimeResampling,
        attention: Attention,
        *,
        fine_in_time: bool,
        pool_early: bool,
    ) -> None:
        super().__init__()
        self.fine_in_time, alone = fine_in_time, not fine_in_time
        fine = [
            CausalConv3d(3, widths[0]) if fine_in_time else FrameConv(3, widths[0], 3, padding=1),
            *res_blocks(widths[0], widths[0], blocks, norm, frames_alone=alone),
        ]
        coarse: list[nn.Module] = []
        split = len(widths) - 1 - TIME_STEPS
        in_time = range(TIME_STEPS) if pool_early else range(split, len(widths) - 1)
        for level, (source, width) in enumerate(pairwise(widths)):
            layers = space_time_downsample(time_resampling, source) if level in in_time else [SpaceDownsample(source)]
            layers += res_blocks(source, width, blocks, norm, frames_alone=alone and level < split)
            (fine if level < split else coarse).extend(layers)
        self.fine, self.coarse = Stack(*fine), Stack(*coarse)
        self.middle = make_middle(widths[-1], norm, attention)
        self.norm, self.out = norm(widths[-1]), CausalConv3d(widths[-1], 2 * latent)
        self.quant = nn.Conv3d(2 * latent, 2 * latent, 1)

    def forward(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        if self.fine_in_time:
            h = self.fine(video, cache)
        else:
            # on the fine levels each frame is a clip of its own: there a group norm, as published, sees one frame
            h = self.fine(rearrange(video, "b c t h w -> (b t) c 1 h w"))
            h = rearrange(h, "(b t) c 1 h w -> b c t h w", b=video.shape[0])
        h = self.middle(self.coarse(h, cache), cache)
        moments: Tensor = self.quant(self.out(silu(self.norm(h)), cache))
        return moments


class Decoder(nn.Module):
    """Latents (B, C, 1 + k, H/8, W/8) -> video (B, 3, 1 + 4k, H, W)."""

    def __init__(
        self,
        latent: int,
        widths: Sequence[int],
        blocks: int,
        norm: Norm,
        time_resampling: TimeResampling,
        attention: Attention,
        interpolation: Interpolation,
    ) -> None:
        super().__init__()
        self.quant = nn.Conv3d(latent, latent, 1)
        self.conv_in = CausalConv3d(latent, widths[-1])
        self.middle = make_middle(widths[-1], norm, attention)
        levels = res_blocks(widths[-1], widths[-1], blocks, norm)
        for step, (source, width) in enumerate(pairwise(reversed(widths)), start=1):
            if step > TIME_STEPS:
                levels.append(SpaceUpsample(source))
            else:
                levels += space_time_upsample(time_resampling, source, interpolation, feeds_another=step < TIME_STEPS)
            levels += res_blocks(source, width, blocks, norm)
        self.levels = Stack(*levels)
        self.norm, self.out = norm(widths[0]), CausalConv3d(widths[0], 3)

    def forward(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        h = self.middle(self.conv_in(self.quant(latents), cache), cache)
        h = self.levels(h, cache)
        video: Tensor = self.out(silu(self.norm(h)), cache)
        return video

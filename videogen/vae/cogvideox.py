"""CogVideoX's autoencoder: causal 3D convolutions, 4x8x8 strides, a decoder whose norms are conditioned on the latents.

After "CogVideoX: Text-to-Video Diffusion Models with An Expert Transformer" (arXiv 2408.06072), section 2.1.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._cogvideox import Downsample, SpatialNorm, SpatialResBlock, Upsample
from videogen.vae._layers import CausalConv3d, Norm, Stack
from videogen.vae._lean import silu
from videogen.vae._levels import GROUPS, make_norm, res_blocks
from videogen.vae._posterior import DiagonalGaussian
from videogen.vae._streaming import CausalVAE, StreamCache, check_channels, check_rgb, filled

#: the encoder's first and the decoder's first so many changes of resolution are in time too
TIME_STEPS = 2
#: latent frames that are coded at once; a clip's first batch has one more
BATCH = 2


class BatchSpec(VAESpec):
    """A spec of clips whose latents, after the first frame's, come two at a time: 1 + 8k frames."""

    @property
    def frame_step(self) -> int:
        """Frames that a clip grows by: those of a batch."""
        return BATCH * self.temporal_stride

    def fitting_length(self, num_frames: int) -> int:
        """The length of the shortest clip of whole batches that has at least so many frames."""
        return num_frames + -(num_frames - 1) % self.frame_step

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents of a clip.

        Raises:
            ValueError: the strides or the batches don't divide the size; the nearest valid ones are named.
        """
        over = (num_frames - 1) % self.frame_step
        if num_frames > 1 and over:
            below = num_frames - over
            raise ValueError(
                f"{num_frames} frames do not fit a temporal stride of {self.temporal_stride} and batches of {BATCH} "
                f"strides: use {below} or {below + self.frame_step}"
            )
        return super().latent_shape(num_frames, height, width)


@VAES.register("cogvideox")
class CogVideoXVAE(CausalVAE):
    """Causal, 4x8x8 strides, 16 channels, in batches of 8 frames (CogVideoX, https://arxiv.org/abs/2408.06072).

    A clip is coded in batches of two latent frames, which know the past by the convolutions' caches alone; the norms
    take mean and variance over one batch. The first batch has one frame more, the clip's first, which stands alone;
    so clips have 1 or 1 + 8k frames, and streams, coded in the same batches, equal the whole clip.

    Args:
        latent_channels: channels of the latents.
        base_channels: width at full resolution.
        channel_multipliers: width of each level as a multiple of base_channels, finest first; one level more than
            there are halvings of height and width. The first two halvings are of time too, and so are the first two
            doublings, which are the coarsest ones.
        num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
        norm_groups: groups of the normalisation over a batch.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: fewer than 3 levels, or widths that don't split into the groups.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 16,
        base_channels: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 2, 4),
        num_res_blocks: int = 3,
        norm_groups: int = GROUPS,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if len(channel_multipliers) <= TIME_STEPS:
            raise ValueError(
                f"channel_multipliers={tuple(channel_multipliers)} has {len(channel_multipliers)} levels, but time is "
                f"halved {TIME_STEPS} times: give at least {TIME_STEPS + 1}"
            )
        self._spec = BatchSpec(
            latent_channels=latent_channels,
            temporal_stride=2**TIME_STEPS,
            spatial_stride=2 ** (len(channel_multipliers) - 1),
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        self.encoder = Encoder(latent_channels, widths, num_res_blocks, make_norm("group", norm_groups))
        self.decoder = Decoder(latent_channels, widths, num_res_blocks + 1, norm_groups)

    @property
    def spec(self) -> BatchSpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w), batch by batch."""
        cache = StreamCache() if cache is None else cache
        pieces = batches([video], self.spec.frame_step, begins=not cache)
        return torch.cat([self.encoder(batch, cache) for batch in pieces], dim=2)

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W), batch by batch."""
        cache = StreamCache() if cache is None else cache
        pieces = batches([latents], BATCH, begins=not cache)
        return torch.cat([self.decoder(batch, cache) for batch in pieces], dim=2)

    def decode(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 t_out h_out w_out"]:
        """Raw latents -> video, about [-1, 1].

        Raises:
            ValueError: an even number of latent frames, or another number of channels than the spec says.
        """
        _check_count(latents.shape[2])
        return super().decode(latents)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of video, of any lengths -> modes of the posterior, equal to the whole clip's.

        Raises:
            ValueError: the frames end inside a batch, or a frame's size or channels don't fit.
        """
        cache, taken = StreamCache(), 0
        for batch in batches(chunks, self.spec.frame_step):
            check_rgb(batch)
            taken += batch.shape[2]
            self.spec.latent_shape(taken, *batch.shape[3:])
            yield DiagonalGaussian(self.encode_chunk(batch, cache)).mode()

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Chunks of raw latents -> video, equal to the whole clip's, each batch as soon as it is there.

        Raises:
            ValueError: the latents end inside a batch, or have another number of channels than the spec says.
        """
        cache, taken = StreamCache(), 0
        for batch in batches(chunks, BATCH):
            check_channels(batch, self.spec)
            taken += batch.shape[2]
            _check_count(taken)
            yield self.decode_chunk(batch, cache)


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


def batches(chunks: Iterable[Tensor], step: int, *, begins: bool = True) -> Iterator[Tensor]:
    """A stream cut anew into `step` frames at a time, one more where a clip begins, and what is left at its end."""
    waiting: Tensor | None = None
    count = step + int(begins)
    for chunk in filled(chunks):
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
        while waiting.shape[2] >= count:
            yield waiting[:, :, :count]
            waiting, count = waiting[:, :, count:], step
    if waiting is not None and waiting.shape[2]:
        yield waiting


def _check_count(num_latents: int) -> None:
    if num_latents % BATCH != 1:
        choices = f"{num_latents - 1} or {num_latents + 1}" if num_latents else "1"
        raise ValueError(f"{num_latents} latent frames do not fit batches of {BATCH} after the first: use {choices}")

"""CogVideoX's autoencoder: causal 3D convolutions, 4x8x8 strides, a decoder whose norms are conditioned on the latents.

After "CogVideoX: Text-to-Video Diffusion Models with An Expert Transformer" (arXiv 2408.06072), section 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.vae import VAES
from videogen.vae._batches import BATCH, BatchSpec, batches, check_count
from videogen.vae._cogvideox_halves import TIME_STEPS, Decoder, Encoder
from videogen.vae._levels import GROUPS, make_norm
from videogen.vae._posterior import DiagonalGaussian
from videogen.vae._streaming import CausalVAE, StreamCache, check_channels, check_rgb


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
        check_count(latents.shape[2])
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
            check_count(taken)
            yield self.decode_chunk(batch, cache)

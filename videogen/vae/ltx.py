"""LTX-Video's autoencoder: 8x32x32 strides and 128 channels, on patches of pixels; the decoder looks ahead in time.

After "LTX-Video: Realtime Video Latent Diffusion" (arXiv 2501.00103), with the later releases' decoders.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from videogen.vae import VAES, VAESpec
from videogen.vae._ltx_halves import STRIDES, Decoder, Downsampling, Encoder
from videogen.vae._streaming import CausalVAE, StreamCache


@VAES.register("ltx")
class LTXVAE(CausalVAE):
    """Causal encoder, decoder that looks ahead, one variance for all channels (LTX-Video, arXiv 2501.00103).

    Widths and blocks are given for each level, finest first, and then for the middle, between encoder and latents or
    latents and decoder. The mean and deviation of the latents are buffers, since published files keep them with the
    weights: a checkpoint's replace the shift and scale that the knobs say.

    Args:
        latent_channels: channels of the latents.
        patch_size: pixels along height and width that enter as channels of one position.
        encoder_widths: width of each level and of the middle.
        encoder_blocks: residual blocks of each level and of the middle.
        downsamplers: how each level is left: "conv" strides in time and space; the others (0.9.5 on) fold positions
            into channels beside a shortcut that averages, and change the width too; "none" keeps the resolution.
        decoder_widths: width of each level and of the middle.
        decoder_blocks: residual blocks of each level and of the middle.
        upsamplers: whether each level is entered by doubling time, height and width.
        upsample_residual: the input, unfolded, is added to what an upsampler gives (0.9.1 on).
        upsample_narrows: the upsamplers change the width, in place of a residual block before them (0.9.1 on).
        decoder_causal: the decoder looks only backward in time, so that both halves stream; published ones look ahead.
        timestep_conditioning: the decoder is told how noisy the latents are, and denoises them (0.9.1 on).
        decode_timestep: how noisy conditioned decoders take the latents to be, 0 to 1.
        decoder_noise: whether the decoder's blocks add noise to their features, for each level and the middle; none do
            when empty (0.9.1 alone has it). It is the same for all frames of all clips of one size, so that it neither
            flickers nor depends on the batch.
        noise_seed: of that noise: the same latents give the same video.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: tuples whose lengths don't fit, halves of unequal strides, a timestep that nothing is conditioned
            on, a seed of noise that nothing adds, or widths that a shortcut can't fold.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(
        self,
        *,
        latent_channels: int = 128,
        patch_size: int = 4,
        encoder_widths: tuple[int, ...] = (128, 256, 512, 512, 512),
        encoder_blocks: tuple[int, ...] = (4, 3, 3, 3, 4),
        downsamplers: tuple[Downsampling, ...] = ("conv", "conv", "conv", "none"),
        decoder_widths: tuple[int, ...] = (128, 256, 512, 512, 512),
        decoder_blocks: tuple[int, ...] = (4, 3, 3, 3, 4),
        upsamplers: tuple[bool, ...] = (True, True, True, False),
        upsample_residual: bool = False,
        upsample_narrows: bool = False,
        decoder_causal: bool = False,
        timestep_conditioning: bool = False,
        decode_timestep: float = 0.0,
        decoder_noise: tuple[bool, ...] = (),
        noise_seed: int = 0,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        _check_lengths("encoder", encoder_widths, encoder_blocks, "downsamplers", len(downsamplers))
        _check_lengths("decoder", decoder_widths, decoder_blocks, "upsamplers", len(upsamplers))
        _check_noise(decode_timestep, timestep_conditioning, decoder_noise, len(decoder_blocks), noise_seed)
        time, space = _strides(downsamplers, upsamplers)
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=time,
            spatial_stride=patch_size * space,
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        if not decoder_causal:
            self.whole_clip_only = (
                "the decoder looks ahead in time. Give it whole (encode, decode, or a stream of one chunk), or build "
                "and train the VAE with decoder_causal=true, which streams exactly"
            )
        self.patch_size = patch_size
        pixels = 3 * patch_size**2
        self.encoder = Encoder(pixels, latent_channels, encoder_widths, encoder_blocks, downsamplers)
        self.decoder = Decoder(
            latent_channels,
            pixels,
            decoder_widths,
            decoder_blocks,
            upsamplers,
            causal=decoder_causal,
            residual=upsample_residual,
            narrows=upsample_narrows,
            timestep=decode_timestep if timestep_conditioning else None,
            noisy=decoder_noise or (False,) * len(decoder_blocks),
            seed=noise_seed,
        )
        self.register_buffer("latent_mean", torch.tensor(self._spec.shift))
        self.register_buffer("latent_std", 1 / torch.tensor(self._spec.scale))
        self.register_load_state_dict_post_hook(_adopt_statistics)  # type: ignore[no-untyped-call]

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w)."""
        size = self.patch_size
        patches = rearrange(video, "b c t (h dy) (w dx) -> b (c dx dy) t h w", dy=size, dx=size)
        moments: Tensor = self.encoder(patches, cache)
        mean, logvar = moments[:, :-1], moments[:, -1:]
        return torch.cat([mean, logvar.expand_as(mean)], dim=1)

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W)."""
        size = self.patch_size
        patches: Tensor = self.decoder(latents, cache)
        return rearrange(patches, "b (c dx dy) t h w -> b c t (h dy) (w dx)", dy=size, dx=size)


def _check_lengths(half: str, widths: Sequence[int], blocks: Sequence[int], changes: str, count: int) -> None:
    if not len(widths) == len(blocks) == count + 1 > 1:
        raise ValueError(
            f"{half}_widths has {len(widths)} values, {half}_blocks {len(blocks)} and {changes} {count}: give one for "
            f"each level, at least 1, and to {half}_widths and {half}_blocks one more for the middle"
        )


def _check_noise(timestep: float, conditioned: bool, noisy: Sequence[bool], levels: int, seed: int) -> None:
    """Refuse settings of what the decoder is told of noise, or adds, that would say nothing."""
    if timestep and not conditioned:
        raise ValueError(f"decode_timestep={timestep} says nothing without timestep_conditioning=true")
    if len(noisy) not in (0, levels):
        raise ValueError(f"decoder_noise has {len(noisy)} values and decoder_blocks {levels}: give as many, or none")
    if seed and not any(noisy):
        raise ValueError(f"noise_seed={seed} says nothing without decoder_noise on some level")


def _strides(downsamplers: Sequence[Downsampling], upsamplers: Sequence[bool]) -> tuple[int, int]:
    """By how much time, and height and width, are shortened; ValueError unless both halves agree."""
    time, space, _ = (math.prod(strides) for strides in zip(*(STRIDES[d] for d in downsamplers), strict=True))
    doubled = 2 ** sum(upsamplers)
    if (time, space) != (doubled, doubled):
        raise ValueError(
            f"downsamplers shorten time {time} times and space {space} times, but upsamplers lengthen both "
            f"{doubled} times: the strides must agree"
        )
    return time, space


def _adopt_statistics(vae: LTXVAE, _: Any) -> None:
    """A checkpoint's statistics of the latents, as floats: a cast of the weights would round the buffers."""
    vae._spec = dataclasses.replace(
        vae._spec, shift=tuple(vae.latent_mean.tolist()), scale=tuple((1 / vae.latent_std).tolist())
    )

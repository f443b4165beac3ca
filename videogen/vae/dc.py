"""DC-AE: a deterministic image autoencoder of 32x32 strides on each frame of a video, with linear attention.

After "Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models" (arXiv 2410.10733).
"""

from __future__ import annotations

from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._dc import Downsampling, Upsampling
from videogen.vae._dc_halves import Decoder, Encoder
from videogen.vae._deterministic import Deterministic
from videogen.vae._lean import few_at_a_time
from videogen.vae._streaming import CausalVAE, StreamCache


@VAES.register("dc", aliases=("dcae",))
class DeepCompressionAE(CausalVAE):
    """The deterministic 2D autoencoder of SANA, frame by frame, 1x32x32 strides (DC-AE, arXiv 2410.10733).

    Changes of resolution learn what a shortcut that folds space into channels leaves (residual autoencoding).

    Args:
        latent_channels: channels of the latents.
        encoder_widths: width of each level, finest first; one level more than there are halvings of height and width.
        encoder_blocks: blocks of each level; with 0 on the first, its convolution of the pixels halves them at once.
        decoder_widths: width of each level, finest first.
        decoder_blocks: blocks of each level; 0 on the first as in the encoder.
        encoder_attention: the last so many levels have EfficientViT blocks, the others residual blocks.
        decoder_attention: the same of the decoder.
        head_dim: channels of an attention head.
        qkv_scales: odd sizes of the windows that queries, keys and values are gathered over too, each with heads of
            its own.
        downsample: a convolution of stride 2, or one whose positions are folded into channels.
        upsample: nearest neighbours and a convolution, or one whose channels unfold into positions.
        decoder_batch_norm: batch norms and ReLU in the decoder's residual blocks, as the models of ImageNet have.
        encoder_shortcut: latents learn what the average over groups of the coarsest channels leaves.
        decoder_shortcut: the decoder begins from the latents' channels, repeated.
        out_activation: before the decoder's last convolution.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: tuples whose lengths don't fit, halves of unequal strides, or widths that a shortcut or the heads
            can't split.
    """

    posterior = Deterministic

    def __init__(
        self,
        *,
        latent_channels: int = 32,
        encoder_widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024),
        encoder_blocks: tuple[int, ...] = (2, 2, 2, 3, 3, 3),
        decoder_widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024),
        decoder_blocks: tuple[int, ...] = (3, 3, 3, 3, 3, 3),
        encoder_attention: int = 3,
        decoder_attention: int = 3,
        head_dim: int = 32,
        qkv_scales: tuple[int, ...] = (5,),
        downsample: Downsampling = "conv",
        upsample: Upsampling = "interpolate",
        decoder_batch_norm: bool = False,
        encoder_shortcut: bool = True,
        decoder_shortcut: bool = True,
        out_activation: Literal["relu", "silu"] = "relu",
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        lengths = [len(values) for values in (encoder_widths, encoder_blocks, decoder_widths, decoder_blocks)]
        if len(set(lengths)) > 1 or lengths[0] < 2:
            raise ValueError(
                "encoder_widths, encoder_blocks, decoder_widths and decoder_blocks have "
                f"{', '.join(map(str, lengths))} values: give one for each level, at least 2, and as many to each"
            )
        if 0 in (*encoder_blocks[1:], *decoder_blocks[1:]):
            raise ValueError(
                f"encoder_blocks={encoder_blocks}, decoder_blocks={decoder_blocks}: only the first level may have 0"
            )
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=1,
            spatial_stride=2 ** (len(encoder_widths) - 1),
            first_frame_alone=False,
            shift=latent_shift,
            scale=latent_scale,
        )
        attention = (head_dim, tuple(qkv_scales))
        encoder_kinds = _kinds(len(encoder_widths), encoder_attention, "encoder_attention")
        decoder_kinds = _kinds(len(decoder_widths), decoder_attention, "decoder_attention")
        self.encoder = Encoder(
            latent_channels, encoder_widths, encoder_blocks, encoder_kinds, attention, downsample, encoder_shortcut
        )
        self.decoder = Decoder(
            latent_channels,
            decoder_widths,
            decoder_blocks,
            decoder_kinds,
            attention,
            upsample,
            batch_norm=decoder_batch_norm,
            shortcut=decoder_shortcut,
            activation=nn.ReLU() if out_activation == "relu" else nn.SiLU(),
        )

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> latents (B, C, T, h, w)."""
        return _frame_by_frame(self.encoder, video, 1)

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, T, h, w) -> video (B, 3, T, H, W)."""
        return _frame_by_frame(self.decoder, latents, self.spec.spatial_stride)


def _frame_by_frame(half: nn.Module, x: Tensor, stride: int) -> Tensor:
    """Run one half on each frame, (B, C, T, H, W) -> (B, C', T, H', W'); a position is so many pixels high and wide."""
    out = few_at_a_time(half, rearrange(x, "b c t h w -> (b t) c h w"), x[0, 0, 0].numel() * stride**2)
    return rearrange(out, "(b t) c h w -> b c t h w", b=x.shape[0])


def _kinds(levels: int, attention: int, knob: str) -> list[bool]:
    """For each level, whether it attends: the last ones do."""
    if not 0 <= attention <= levels:
        raise ValueError(f"{knob}={attention} of {levels} levels: give 0 to {levels}")
    return [level >= levels - attention for level in range(levels)]

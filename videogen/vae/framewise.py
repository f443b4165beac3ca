"""The image autoencoder of Stable Diffusion on each frame of a video: time is neither compressed nor seen.

After "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752).
"""

from __future__ import annotations

from torch import Tensor

from videogen.vae import VAES, VAESpec
from videogen.vae._framewise import FrameDecoder, FrameEncoder, frame_by_frame
from videogen.vae._levels import GROUPS, make_norm
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
            shift=latent_shift,
            scale=latent_scale,
        )
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        norm = make_norm("group", norm_groups)
        sides = {"attention": use_attention, "quant": use_quant_conv}
        self.encoder = FrameEncoder(latent_channels, widths, num_res_blocks, norm, **sides)
        self.decoder = FrameDecoder(latent_channels, widths, num_res_blocks + 1, norm, **sides)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, T, h, w)."""
        return frame_by_frame(self.encoder, video)

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, T, h, w) -> video (B, 3, T, H, W)."""
        return frame_by_frame(self.decoder, latents, self.spec.spatial_stride)

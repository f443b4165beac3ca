"""WF-VAE: a causal video autoencoder whose low frequencies travel through wavelets past the convolutions.

After "WF-VAE: Enhancing Video VAE by Wavelet-Driven Energy Flow" (arXiv 2411.17459).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from videogen.vae import VAES, VAESpec
from videogen.vae._haar import Haar3D
from videogen.vae._layers import Interpolation
from videogen.vae._linear import LinearPath, mean_plus, start_silent
from videogen.vae._streaming import CausalVAE, StreamCache
from videogen.vae._wavelet import Decoder, Encoder


@VAES.register("wavelet", aliases=("wfvae",))
class WaveletVAE(CausalVAE):
    """Causal VAE on Haar coefficients, 4x8x8 strides, streams exactly (WF-VAE, https://arxiv.org/abs/2411.17459).

    The defaults are near Open-Sora-Plan v1.3's. That of v1.5 has temporal strides of 8, 32 latent channels, widths of
    160 and paths of 128.

    Args:
        latent_channels: channels of the latents.
        temporal_stride: frames per latent frame; 4, or 8, where the first level halves time too, as in v1.5.
        base_channels: width at half resolution; doubles and quadruples deeper.
        encoder_flow: channels of the encoder's low-frequency path.
        decoder_flow: channels of the decoder's; as base_channels if 0.
        num_res_blocks: residual blocks a level.
        flow_res_blocks: residual blocks on each low-frequency path of the decoder.
        use_attention: spatial attention among the positions of a latent frame.
        linear_path: a learned linear code of each patch beside the network; small models learn much faster with it.
        time_interpolation: how the decoder doubles frames; "nearest" needs no look-ahead in a stream.
        haar_gain: gain of the 3D Haar coefficients; 1 / (2 sqrt 2) is orthogonal, published weights have 0.3536.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: a temporal stride that is neither 4 nor 8.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 8,
        temporal_stride: int = 4,
        base_channels: int = 128,
        encoder_flow: int = 64,
        decoder_flow: int = 0,
        num_res_blocks: int = 2,
        flow_res_blocks: int = 1,
        use_attention: bool = True,
        linear_path: bool = False,
        time_interpolation: Interpolation = "nearest",
        haar_gain: float = 8**-0.5,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if temporal_stride not in (4, 8):
            raise ValueError(
                f"temporal_stride={temporal_stride} is neither 4 nor 8: the two levels halve time so often"
            )
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=temporal_stride,
            spatial_stride=8,
            first_frame_alone=True,
            shift=latent_shift,
            scale=latent_scale,
        )
        self.linear = LinearPath(latent_channels, temporal_stride) if linear_path else None
        self.lookahead = 1 if time_interpolation == "trilinear" else 0
        self.haar = Haar3D(haar_gain)
        in_time = temporal_stride == 8
        self.encoder = Encoder(
            latent_channels, base_channels, encoder_flow, num_res_blocks, use_attention, haar_gain, in_time=in_time
        )
        self.decoder = Decoder(
            latent_channels,
            base_channels,
            decoder_flow or base_channels,
            num_res_blocks,
            flow_res_blocks,
            use_attention,
            time_interpolation,
            haar_gain,
            in_time=in_time,
        )

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode_chunk(self, video: Tensor, cache: StreamCache | None) -> Tensor:
        """Video (B, 3, T, H, W) -> mean and log-variance (B, 2C, t, h, w)."""
        moments: Tensor = self.encoder(self.haar(video, cache), cache)
        return moments if self.linear is None else mean_plus(moments, self.linear.encode(video, cache))

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Latents (B, C, t, h, w) -> video (B, 3, T, H, W)."""
        first = cache is None or self not in cache
        own = latents
        if cache is not None:
            # the decoder spends the look-ahead, the linear path has no use for it
            own = latents[:, :, : latents.shape[2] - cache.lookahead]
            # a mark that the clip has begun; a slice of the latents would keep them all in memory
            cache[self] = latents.new_empty(0)
        video = self.haar.inverse(self.decoder(latents, first, cache), first)
        return video if self.linear is None else video + self.linear.decode(own, first)

    def fit(self, clips: Iterable[Tensor]) -> None:
        """Start the linear path, if there is one, from the principal components of some clips (3, T, H, W)."""
        if self.linear is None:
            return
        self.linear.fit(clips)
        flows = (self.decoder.flow1, self.decoder.flow2)
        start_silent(self.encoder.out, self.decoder.out, *(flow[len(flow) - 1] for flow in flows))
        # and nearly without noise, which unit variance would drown in
        bias = self.encoder.out.conv.bias
        assert bias is not None
        with torch.no_grad():
            bias[self.spec.latent_channels :] = -6.0

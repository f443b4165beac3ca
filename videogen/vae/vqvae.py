"""VideoGPT's VQ-VAE: a video becomes a grid of codes, each the nearest entry of a learned codebook.

After "VideoGPT: Video Generation using VQ-VAE and Transformers" (arXiv 2104.10157).
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from videogen.vae import VAES, VAESpec
from videogen.vae._codebook import Codebook, Quantised
from videogen.vae._streaming import CausalVAE, StreamCache, check_rgb
from videogen.vae._vqvae import Decoder, Encoder, Strides
from videogen.vae._vqvae import SameConv as SameConv
from videogen.vae._vqvae import SameConvTranspose as SameConvTranspose


@VAES.register("vqvae", aliases=("videogpt",))
class VQVAE(CausalVAE):
    """Discrete codes from convolutions and axial attention, 4x4x4 strides (VideoGPT, https://arxiv.org/abs/2104.10157).

    In training mode `encode` also moves the codebook towards what it sees, as a batch norm does its statistics; random
    numbers for that are PyTorch's global ones.

    Args:
        latent_channels: channels of a code's embedding.
        codebook_size: entries of the codebook.
        codebook_decay: how much of a code's running mean a training step keeps.
        base_channels: width.
        num_res_blocks: residual blocks of the encoder, and of the decoder.
        num_heads: of the attention along each axis.
        temporal_stride: frames per latent frame, a power of two.
        spatial_stride: pixels per code along height and width, a power of two.
        latent_shift: per channel; zeros when empty.
        latent_scale: per channel; ones when empty.

    Raises:
        ValueError: strides that are no powers of two, or all 1, or a width that the heads don't divide.
    """

    whole_clip_only = (
        "its convolutions and its attention along time look ahead. Give it whole (encode, decode, or a stream of one "
        "chunk), or choose a causal VAE, such as wavelet"
    )

    def __init__(
        self,
        *,
        latent_channels: int = 256,
        codebook_size: int = 2048,
        codebook_decay: float = 0.99,
        base_channels: int = 240,
        num_res_blocks: int = 4,
        num_heads: int = 2,
        temporal_stride: int = 4,
        spatial_stride: int = 4,
        latent_shift: tuple[float, ...] = (),
        latent_scale: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        for name, stride in (("temporal_stride", temporal_stride), ("spatial_stride", spatial_stride)):
            if stride < 1 or stride & (stride - 1):
                raise ValueError(f"{name}={stride} is no power of two: use 1, 2, 4 or 8")
        if temporal_stride == spatial_stride == 1:
            raise ValueError("strides of 1 along all axes compress nothing: give temporal_stride or spatial_stride=2")
        if base_channels % num_heads:
            nearest = max(1, round(base_channels / num_heads)) * num_heads
            raise ValueError(f"base_channels={base_channels} do not split into {num_heads} heads: use {nearest}")
        self._spec = VAESpec(
            latent_channels=latent_channels,
            temporal_stride=temporal_stride,
            spatial_stride=spatial_stride,
            first_frame_alone=False,
            shift=latent_shift,
            scale=latent_scale,
        )
        strides = _steps(temporal_stride, spatial_stride)
        self.encoder = Encoder(base_channels, latent_channels, strides, num_res_blocks, num_heads)
        self.codebook = Codebook(codebook_size, latent_channels, codebook_decay)
        self.decoder = Decoder(latent_channels, base_channels, strides, num_res_blocks, num_heads)

    @property
    def spec(self) -> VAESpec:
        """Channels, strides, and the shift and scale of the latents."""
        return self._spec

    def encode(self, video: Float[Tensor, "b rgb t h w"]) -> Quantised:
        """Video in [-1, 1] -> the nearest codes and their embeddings.

        Raises:
            ValueError: the strides don't divide the clip's length or size, or it has not 3 channels.
        """
        check_rgb(video)
        self.spec.latent_shape(*video.shape[2:])
        # the published pixels are in [-0.5, 0.5]
        return self.codebook.quantise(self.encoder(video / 2))

    def decode_chunk(self, latents: Tensor, cache: StreamCache | None) -> Tensor:
        """Embeddings (B, C, t, h, w) -> video (B, 3, T, H, W)."""
        video: Tensor = self.decoder(latents) * 2
        return video

    def codes(self, video: Float[Tensor, "b rgb t h w"]) -> Int[Tensor, "b t_out h_out w_out"]:
        """Video in [-1, 1] -> codes. Raises as `encode`."""
        return self.encode(video).codes

    def decode_codes(self, codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b 3 t_out h_out w_out"]:
        """Codes -> video, about [-1, 1].

        Raises:
            ValueError: a code that the codebook hasn't.
        """
        unknown = codes[(codes < 0) | (codes >= len(self.codebook.embeddings))]
        if unknown.numel():
            last = len(self.codebook.embeddings) - 1
            raise ValueError(f"code {int(unknown[0])} is not in the codebook: it has 0 to {last}")
        return self.decode(self.codebook.embed(codes))


def _steps(temporal: int, spatial: int) -> list[Strides]:
    """The strides of each convolution: all axes are halved from the first on, until each is done."""
    count = max(temporal, spatial).bit_length() - 1
    halved = [(1 + (temporal >> i > 1), 1 + (spatial >> i > 1)) for i in range(count)]
    return [(time, space, space) for time, space in halved]

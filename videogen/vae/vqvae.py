"""VideoGPT's VQ-VAE: a video becomes a grid of codes, each the nearest entry of a learned codebook.

After "VideoGPT: Video Generation using VQ-VAE and Transformers" (arXiv 2104.10157).
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from videogen.vae import VAES, VAESpec
from videogen.vae._codebook import Codebook, Quantised
from videogen.vae._streaming import CausalVAE, StreamCache, check_rgb

Strides = tuple[int, int, int]


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


class Encoder(nn.Module):
    """Video (B, 3, T, H, W) in [-0.5, 0.5] -> features (B, C, t, h, w)."""

    def __init__(self, width: int, latent: int, strides: list[Strides], blocks: int, heads: int) -> None:
        super().__init__()
        widths = [3, *[width] * len(strides)]
        self.downs = nn.ModuleList(SameConv(w, width, 4, step) for w, step in zip(widths, strides, strict=False))
        self.conv = SameConv(widths[-1], width, 3)
        self.blocks = _blocks(width, blocks, heads)
        self.out = SameConv(width, latent, 1)

    def forward(self, video: Tensor) -> Tensor:
        h = video
        for down in self.downs:
            h = F.relu(down(h))
        features: Tensor = self.out(self.blocks(self.conv(h)))
        return features


class Decoder(nn.Module):
    """Embeddings (B, C, t, h, w) -> video (B, 3, T, H, W), about [-0.5, 0.5]."""

    def __init__(self, latent: int, width: int, strides: list[Strides], blocks: int, heads: int) -> None:
        super().__init__()
        widths = [*[width] * (len(strides) - 1), 3]
        self.conv_in = SameConv(latent, width, 1)
        self.blocks = _blocks(width, blocks, heads)
        self.ups = nn.ModuleList(SameConvTranspose(width, w, 4, step) for w, step in zip(widths, strides, strict=True))

    def forward(self, latents: Tensor) -> Tensor:
        h: Tensor = self.blocks(self.conv_in(latents))
        for index, up in enumerate(self.ups):
            h = up(F.relu(h) if index else h)
        return h


def _steps(temporal: int, spatial: int) -> list[Strides]:
    """The strides of each convolution: all axes are halved from the first on, until each is done."""
    count = max(temporal, spatial).bit_length() - 1
    halved = [(1 + (temporal >> i > 1), 1 + (spatial >> i > 1)) for i in range(count)]
    return [(time, space, space) for time, space in halved]


def _same_padding(kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """Zeros around each axis, last first, for exactly size / stride outputs; an odd one is in front."""
    zeros = [k - s for k, s in zip(kernel, stride, strict=True)]
    return [side for zero in reversed(zeros) for side in (zero - zero // 2, zero // 2)]


class SameConv(nn.Conv3d):
    """3D convolution to size / stride positions."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: Strides = (1, 1, 1), *, bias: bool = True
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, _same_padding(self.kernel_size, self.stride)))


class SameConvTranspose(nn.ConvTranspose3d):
    """Transposed 3D convolution to size * stride positions."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: Strides) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding=kernel - 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        x = F.pad(x, _same_padding(self.kernel_size, self.stride))
        if not x.requires_grad:
            return super().forward(x)
        # what the layer's padding leaves out, left out by hand: on a CPU, in bfloat16, PyTorch 2.14 else takes the
        # gradient of few frames from memory that nobody wrote
        whole = F.conv_transpose3d(x, self.weight, self.bias, self.stride)
        time, height, width = (slice(kernel - 1, 1 - kernel) for kernel in self.kernel_size)
        return whole[:, :, time, height, width]


class ResBlock(nn.Module):
    """batch norm, ReLU and convolution twice, and once with axial attention, plus the input."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        half = channels // 2
        self.block = nn.Sequential(
            *(nn.BatchNorm3d(channels), nn.ReLU(), SameConv(channels, half, 3, bias=False)),
            *(nn.BatchNorm3d(half), nn.ReLU(), SameConv(half, channels, 1, bias=False)),
            *(nn.BatchNorm3d(channels), nn.ReLU(), AxialAttention(channels, heads)),
        )

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.block(x)
        return x + h


class AxialAttention(nn.Module):
    """Self-attention along time, height and width, each alone; their sum."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.along_t, self.along_h, self.along_w = (AxisAttention(channels, heads, axis) for axis in (1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1)
        h: Tensor = self.along_t(x) + self.along_h(x) + self.along_w(x)
        return h.movedim(-1, 1)


class AxisAttention(nn.Module):
    """Self-attention among the positions along one axis of (B, t, h, w, C)."""

    def __init__(self, channels: int, heads: int, axis: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)
        self.heads, self.axis = heads, axis

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(self.axis, -2)
        split = "b x y n (three heads c) -> three (b x y) heads n c"
        q, k, v = rearrange(self.qkv(x), split, three=3, heads=self.heads)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        out: Tensor = self.out(h.reshape(x.shape))
        return out.movedim(-2, self.axis)


def _blocks(channels: int, count: int, heads: int) -> nn.Sequential:
    blocks = (ResBlock(channels, heads) for _ in range(count))
    return nn.Sequential(*blocks, nn.BatchNorm3d(channels), nn.ReLU())

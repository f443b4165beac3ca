"""The two halves of VideoGPT's VQ-VAE: convolutions to whole strides, and blocks with axial attention."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Strides = tuple[int, int, int]


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

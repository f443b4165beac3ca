"""Haar wavelets of video as fixed, orthogonal transforms of 2x2 and 2x2x2 neighbours."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._streaming import StreamCache, with_past


def _hadamard(axes: int) -> Tensor:
    """(2^axes, 2^axes): row = band, in binary which axes are differences (time, height, width); column = neighbour."""
    matrix = torch.ones(1, 1)
    for _ in range(axes):
        matrix = torch.kron(matrix, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    return matrix


class Haar3D(nn.Module):
    """Causal 3D Haar transform: (B, C, 1 + 2k, H, W) -> (B, 8C, 1 + k, H/2, W/2), low band first.

    Args:
        gain: of each coefficient; 1 / (2 sqrt 2) makes the transform orthogonal.
    """

    bands = 8
    matrix: Tensor

    def __init__(self, gain: float = 8**-0.5) -> None:
        super().__init__()
        self.register_buffer("matrix", _hadamard(3) * gain, persistent=False)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        # frames pair up as (0, 0), (1, 2), (3, 4) …: the first frame is its own past
        x = with_past(self, x, 1, 0, cache)
        corners = rearrange(x, "b c (t p) (h q) (w r) -> (p q r) b c t h w", p=2, q=2, r=2)
        bands: Tensor = torch.tensordot(self.matrix, corners.to(self.matrix.dtype), 1)
        return rearrange(bands, "band b c t h w -> b (band c) t h w")

    def inverse(self, bands: Tensor, first: bool) -> Tensor:
        """Bands -> video; `first` says that the bands start a clip, whose first frame stands alone."""
        split = rearrange(bands, "b (band c) t h w -> band b c t h w", band=8)
        corners: Tensor = torch.tensordot(self.matrix.t(), split.to(self.matrix.dtype), 1)
        video = rearrange(corners, "(p q r) b c t h w -> b c (t p) (h q) (w r)", p=2, q=2, r=2)
        return video[:, :, 1:] if first else video


class Haar2D(nn.Module):
    """2D Haar transform of each frame: (B, C, T, H, W) -> (B, 4C, T, H/2, W/2); low, height, width, both.

    It is called as `Haar3D` is; a frame alone has no use for the cache, nor for where a clip starts.
    """

    bands = 4
    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        # published weights count the band of height differences before that of width
        self.register_buffer("matrix", _hadamard(2)[[0, 2, 1, 3]] * 0.5, persistent=False)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        corners = rearrange(x, "b c t (h q) (w r) -> (q r) b c t h w", q=2, r=2)
        bands: Tensor = torch.tensordot(self.matrix, corners.to(self.matrix.dtype), 1)
        return rearrange(bands, "band b c t h w -> b (band c) t h w")

    def inverse(self, bands: Tensor, first: bool = True) -> Tensor:
        """(B, 4C, T, H/2, W/2) -> (B, C, T, H, W)."""
        split = rearrange(bands, "b (band c) t h w -> band b c t h w", band=4)
        corners: Tensor = torch.tensordot(self.matrix.t(), split.to(self.matrix.dtype), 1)
        return rearrange(corners, "(q r) b c t h w -> b c t (h q) (w r)", q=2, r=2)

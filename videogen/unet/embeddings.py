"""From numbers to vectors: the timestep and the frames a second, as the residual blocks take them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


def sincos(numbers: Shaped[Tensor, "*shape"], channels: int) -> Float[Tensor, "*shape c"]:
    """Cosines, then sines of each number at `channels` / 2 frequencies from 1 down to just above 1 / 10000, in float32.

    https://arxiv.org/abs/1706.03762, section 3.5.
    """
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=numbers.device)
    angles = numbers.float()[..., None] * torch.exp(-math.log(10000.0) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class NumberEmbedding(nn.Module):
    """Sin-cos features of a number and a two-layer MLP, four times as wide.

    Args:
        features: width of the sin-cos features, even.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(nn.Linear(features, 4 * features), nn.SiLU(), nn.Linear(4 * features, 4 * features))

    def forward(self, numbers: Shaped[Tensor, "b f"], dtype: torch.dtype) -> Float[Tensor, "b f d"]:
        """(B, F) -> (B, F, 4 * features) in `dtype`; the angles are computed in float32."""
        embedded: Tensor = self.mlp(sincos(numbers, self.features).to(dtype))
        return embedded

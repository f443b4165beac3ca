"""The norm before the last layer, as most models have it."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import mix
from videogen.dit.branch import per_token
from videogen.dit.initial import zero_linear


class ShiftScaleFinal(nn.Module):
    """Norm(tokens) * (1 + scale) + shift before the last layer, of a linear layer of the timestep."""

    def __init__(self, dim: int, time_dim: int, norm: nn.Module) -> None:
        super().__init__()
        self.linear, self.norm = zero_linear(time_dim, 2 * dim), norm

    def forward(
        self, tokens: Float[Tensor, "b n d"], time: Float[Tensor, "b f e"], grid: tuple[int, int, int]
    ) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)."""
        shift, scale = per_token(self.linear(F.silu(time)), grid).chunk(2, dim=-1)
        return mix(shift, 1 + scale, self.norm(tokens))

"""adaLN-Zero: each block has a linear layer of its own from the timestep to shifts, scales and gates."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition
from videogen.dit.branch import Branch, per_token
from videogen.dit.initial import zero_linear
from videogen.dit.modulations import MODULATIONS


@MODULATIONS.register("adaln_zero")
class AdaLNZero:
    """DiT's modulation, https://arxiv.org/abs/2212.09748, section 3.2: a block starts as nothing.

    Args:
        dim: width of the tokens.
        time_dim: width of the embedded timestep.
        norm: builds the norm that is modulated, `norm(dim)`.
    """

    def __init__(self, dim: int, time_dim: int, norm: Callable[[int], nn.Module]) -> None:
        self.dim, self.time_dim, self.norm = dim, time_dim, norm

    def shared(self, branches: int) -> nn.Module:
        """SiLU alone."""
        return nn.SiLU()

    def layer(self, dim: int, branches: int) -> nn.Module:
        """The linear layer of one block."""
        return AdaLNZeroLayer(dim, self.time_dim, branches, self.norm)

    def final(self) -> nn.Module:
        """Shift and scale of the last layer."""
        return AdaLNZeroFinal(self.dim, self.time_dim, self.norm(self.dim))


class AdaLNZeroLayer(nn.Module):
    """Shift, scale and gate of each residual branch of one block."""

    def __init__(self, dim: int, time_dim: int, branches: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.branches = branches
        self.linear = zero_linear(time_dim, 3 * branches * dim)
        self.norms = nn.ModuleList([norm(dim) for _ in range(branches)])

    def forward(self, condition: BlockCondition) -> list[Branch]:
        """One `Branch` for each residual branch, in order."""
        parts = per_token(self.linear(condition.time), condition.grid).chunk(3 * self.branches, dim=-1)
        return [Branch(norm, *parts[3 * i : 3 * i + 3]) for i, norm in enumerate(self.norms)]


class AdaLNZeroFinal(nn.Module):
    """LayerNorm(tokens) * (1 + scale) + shift before the last layer."""

    def __init__(self, dim: int, time_dim: int, norm: nn.Module) -> None:
        super().__init__()
        self.linear, self.norm = zero_linear(time_dim, 2 * dim), norm

    def forward(
        self, tokens: Float[Tensor, "b n d"], time: Float[Tensor, "b f e"], grid: tuple[int, int, int]
    ) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)."""
        shift, scale = per_token(self.linear(F.silu(time)), grid).chunk(2, dim=-1)
        return torch.addcmul(shift, self.norm(tokens), 1 + scale)

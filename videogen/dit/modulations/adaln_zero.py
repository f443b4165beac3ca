"""adaLN-Zero: each block has a linear layer of its own from the timestep to shifts, scales and gates."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from videogen.dit.blocks import BlockCondition
from videogen.dit.branch import Branch, branches, per_token
from videogen.dit.initial import zero_linear
from videogen.dit.modulations import MODULATIONS
from videogen.dit.modulations._final import ShiftScaleFinal


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

    def layer(self, dim: int, branches: int, *, norms: int | None = None, gated: bool = True) -> nn.Module:
        """The linear layer of one block."""
        return AdaLNZeroLayer(dim, self.time_dim, branches, [self.norm(dim) for _ in range(norms or branches)], gated)

    def final(self) -> nn.Module:
        """Shift and scale of the last layer."""
        return ShiftScaleFinal(self.dim, self.time_dim, self.norm(self.dim))


class AdaLNZeroLayer(nn.Module):
    """Shift, scale and gate of each residual branch of one block."""

    def __init__(self, dim: int, time_dim: int, branches: int, norms: list[nn.Module], gated: bool) -> None:
        super().__init__()
        self.branches, self.gated = branches, gated
        self.linear = zero_linear(time_dim, (2 + gated) * branches * dim)
        self.norms = nn.ModuleList(norms)

    def forward(self, condition: BlockCondition) -> list[Branch]:
        """One `Branch` for each residual branch, in order."""
        signals = per_token(self.linear(condition.time), condition.grid)
        return branches(self.norms, signals.chunk((2 + self.gated) * self.branches, dim=-1), self.gated)

"""Norms before and behind each branch, a scale and a tanh gate from the timestep, no shift: Mochi's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import mix
from videogen.dit.blocks import BlockCondition
from videogen.dit.branch import per_token
from videogen.dit.initial import zero_linear
from videogen.dit.modulations import MODULATIONS
from videogen.dit.modulations._final import ShiftScaleFinal


@MODULATIONS.register("sandwich")
class Sandwich:
    """Sandwich norms with tanh gates, https://arxiv.org/abs/2406.18583, section 2.1: activations can't run away.

    Mochi 1 has them (https://github.com/genmoai/mochi). The norm before the last layer has a shift too.

    Args:
        dim: width of the tokens.
        time_dim: width of the embedded timestep.
        norm: builds the norm on both sides of a branch, `norm(dim)`.
    """

    def __init__(self, dim: int, time_dim: int, norm: Callable[[int], nn.Module]) -> None:
        self.dim, self.time_dim, self.norm = dim, time_dim, norm

    def shared(self, branches: int) -> nn.Module:
        """SiLU alone."""
        return nn.SiLU()

    def layer(self, dim: int, branches: int, *, norms: int | None = None, gated: bool = True) -> nn.Module:
        """The linear layer of one block."""
        before, behind = ([self.norm(dim) for _ in range(norms or branches)] for _ in range(2))
        return SandwichLayer(dim, self.time_dim, branches, before, behind if gated else [])

    def final(self) -> nn.Module:
        """Shift and scale of the last layer."""
        return ShiftScaleFinal(self.dim, self.time_dim, self.norm(self.dim))


class SandwichLayer(nn.Module):
    """Scale and gate of each residual branch of one block, and its norms."""

    def __init__(
        self, dim: int, time_dim: int, branches: int, before: list[nn.Module], behind: list[nn.Module]
    ) -> None:
        super().__init__()
        self.branches = branches
        self.linear = zero_linear(time_dim, (1 + bool(behind)) * branches * dim)
        self.before, self.behind = nn.ModuleList(before), nn.ModuleList(behind)

    def forward(self, condition: BlockCondition) -> list[SandwichBranch]:
        """One `SandwichBranch` for each residual branch, in order."""
        signals = per_token(self.linear(condition.time), condition.grid)
        if not self.behind:
            parts: list[tuple[Tensor, Tensor | None]] = [
                (scale, None) for scale in signals.chunk(self.branches, dim=-1)
            ]
        else:
            chunks = signals.chunk(2 * self.branches, dim=-1)
            parts = list(zip(chunks[::2], chunks[1::2], strict=True))
        branches = []
        for i, (scale, gate) in enumerate(parts):
            place = i * len(self.before) // self.branches
            behind = None if gate is None else self.behind[place]
            branches.append(SandwichBranch(self.before[place], behind, scale, gate))
        return branches


class SandwichBranch(NamedTuple):
    """One residual branch between two norms; scale and gate are each (B, 1, D) or (B, N, D)."""

    before: nn.Module
    #: None of a branch that isn't left, and so is its gate
    behind: nn.Module | None
    scale: Tensor
    gate: Tensor | None

    def enter(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What the branch sees: normalised, scaled tokens."""
        out: Tensor = self.before(tokens) * (1 + self.scale)
        return out

    def leave(self, tokens: Float[Tensor, "b n d"], out: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """tokens + tanh(gate) * norm(out)."""
        gate, out = self.given(out)
        return mix(tokens, gate, out)

    def given(self, out: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n_or_1 d"], Float[Tensor, "b n d"]]:
        """What the tokens are given: a gate, and what passes through it."""
        assert self.gate is not None
        assert self.behind is not None
        return self.gate.tanh(), self.behind(out)

    def entry(self) -> tuple[nn.Module, Tensor | None, Tensor]:
        """Norm, no shift, and scale of what the branch sees."""
        return self.before, None, self.scale

"""A residual branch under modulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import mix
from videogen.kernels.fused import Fused


class Branch(NamedTuple):
    """One residual branch under modulation; shift, scale and gate are each (B, 1, D) or (B, N, D)."""

    norm: nn.Module
    shift: Tensor
    scale: Tensor
    #: None of a branch that isn't left
    gate: Tensor | None = None

    def enter(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What the branch sees: normalised, scaled, shifted tokens."""
        return mix(self.shift, 1 + self.scale, self.norm(tokens))

    def leave(self, tokens: Float[Tensor, "b n d"], out: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """tokens + gate * out."""
        gate, out = self.given(out)
        return mix(tokens, gate, out)

    def given(self, out: Float[Tensor, "b n d"]) -> tuple[Float[Tensor, "b n_or_1 d"], Float[Tensor, "b n d"]]:
        """What the tokens are given: a gate, and what passes through it."""
        assert self.gate is not None
        return self.gate, out

    def entry(self) -> tuple[nn.Module, Tensor | None, Tensor]:
        """Norm, shift and scale of what the branch sees."""
        return self.norm, self.shift, self.scale


class AnyBranch(Protocol):
    """A branch of any modulation."""

    def given(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Gate, and what passes through it."""
        ...

    def entry(self) -> tuple[nn.Module, Tensor | None, Tensor]:
        """Norm, shift and scale."""
        ...


def onwards(
    ops: Fused, tokens: Float[Tensor, "b n d"], out: Float[Tensor, "b n d"], left: AnyBranch | None, entered: AnyBranch
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
    """Out of one branch, None for one without a gate, and into the next: the tokens, and what the next branch sees.

    The same as `left.leave`, then `entered.enter`.
    """
    gate, given = (None, out) if left is None else left.given(out)
    return ops.residual_norm(tokens, given, gate, *entered.entry())


def branches(norms: nn.ModuleList, signals: Sequence[Tensor], gated: bool) -> list[Branch]:
    """Shift, scale and gate of each branch, or shift and scale alone; fewer norms are shared by neighbours."""
    each = 2 + gated
    count = len(signals) // each
    owners = [norms[i * len(norms) // count] for i in range(count)]
    return [Branch(owner, *signals[each * i : each * (i + 1)]) for i, owner in enumerate(owners)]


def per_token(signals: Float[Tensor, "b f d"], grid: tuple[int, int, int]) -> Float[Tensor, "b n_or_1 d"]:
    """Signals of all tokens (B, 1, D), frames (B, T, D) or tokens (B, N, D) -> (B, 1 or N, D), ready to broadcast."""
    frames, rows, columns = grid
    if signals.shape[1] in (1, frames * rows * columns):
        return signals
    return repeat(signals, "b t d -> b (t s) d", s=rows * columns)

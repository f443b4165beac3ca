"""How the timestep enters: shift, scale and gate of each residual branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import nn


class Modulation(Protocol):
    """Builds the layers of one model; built as `Modulation(dim, time_dim, norm, *, knobs)`, no module itself."""

    def shared(self, branches: int) -> nn.Module:
        """(B, F, time_dim) -> (B, F, …): what is computed once for all blocks, the largest of which has `branches`.

        One that has `conditions`, fields of the condition that the model then takes, is called with the time, the
        condition and the number of latent frames of each clip (B or 1, 1).
        """
        ...

    def layer(self, dim: int, branches: int, *, norms: int | None = None, gated: bool = True) -> nn.Module:
        """What a block asks for its branches: `layer(condition) -> list[Branch]`; `dim` is the width of its tokens.

        Args:
            norms: how many norms the branches have between them, in order: 2 of 4 branches are for two and two. None
                is one each.
            gated: whether they are left too; what only enters has no gate.
        """
        ...

    def final(self) -> nn.Module:
        """(tokens, time, grid) -> tokens: the norm before the last layer, given the unshared time."""
        ...


MODULATIONS: Registry[Any] = Registry("dit/modulation", "videogen.dit.modulations")

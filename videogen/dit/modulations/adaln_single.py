"""adaLN-single: one linear layer for all blocks, and in each block a table that is added to what it gives."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from videogen.dit.initial import linear
from videogen.dit.modulations import MODULATIONS
from videogen.dit.modulations._table import AdaLNSingleFinal, AdaLNSingleLayer


@MODULATIONS.register("adaln_single")
class AdaLNSingle:
    """PixArt's modulation, https://arxiv.org/abs/2310.00426, section 2.3; Open-Sora's, Latte's and Wan's too.

    Args:
        dim: width of the tokens.
        time_dim: width of the embedded timestep, the same.
        norm: builds the norm that is modulated, `norm(dim)`.

    Raises:
        ValueError: time_dim isn't dim; the table of the last layer is added to the timestep itself.
    """

    def __init__(self, dim: int, time_dim: int, norm: Callable[[int], nn.Module]) -> None:
        if time_dim != dim:
            raise ValueError(f"adaln_single needs dit.time.dim = dim = {dim}, not {time_dim}: leave dit.time.dim out")
        self.dim, self.norm = dim, norm

    def shared(self, branches: int) -> nn.Module:
        """The linear layer of all blocks."""
        return nn.Sequential(nn.SiLU(), linear(self.dim, 3 * branches * self.dim))

    def layer(self, dim: int, branches: int, *, norms: int | None = None, gated: bool = True) -> nn.Module:
        """The table of one block.

        Raises:
            ValueError: a block whose tokens are of another width than the model's, as the shared layer is.
        """
        if dim != self.dim:
            raise ValueError(f"adaln_single modulates tokens of width {self.dim}, not {dim}: use adaln_zero")
        return AdaLNSingleLayer(dim, branches, [self.norm(dim) for _ in range(norms or branches)], gated)

    def final(self) -> nn.Module:
        """Table of the last layer."""
        return AdaLNSingleFinal(self.dim, self.norm(self.dim))

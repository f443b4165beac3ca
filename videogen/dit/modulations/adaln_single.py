"""adaLN-single: one linear layer for all blocks, and in each block a table that is added to what it gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import mix
from videogen.dit.blocks import BlockCondition
from videogen.dit.branch import Branch, branches, per_token
from videogen.dit.initial import linear
from videogen.dit.modulations import MODULATIONS


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


class AdaLNSingleLayer(nn.Module):
    """Shift, scale and gate of each residual branch of one block: table + shared signals."""

    def __init__(self, dim: int, branches: int, norms: list[nn.Module], gated: bool) -> None:
        super().__init__()
        self.branches, self.gated = branches, gated
        self.table = nn.Parameter(torch.randn((2 + gated) * branches, dim) * dim**-0.5)
        self.norms = nn.ModuleList(norms)

    def forward(self, condition: BlockCondition) -> list[Branch]:
        """One `Branch` for each residual branch, in order."""
        rows, dim = self.table.shape
        # a block with fewer branches than the largest one takes the first signals
        signals = rearrange(condition.time[..., : rows * dim], "b f (rows d) -> b f rows d", d=dim) + self.table
        parts = [per_token(part, condition.grid) for part in signals.unbind(2)]
        return branches(self.norms, parts, self.gated)


class AdaLNSingleFinal(nn.Module):
    """Norm(tokens) * (1 + scale) + shift before the last layer: the table plus the embedded timestep."""

    def __init__(self, dim: int, norm: nn.Module) -> None:
        super().__init__()
        self.table, self.norm = nn.Parameter(torch.randn(2, dim) * dim**-0.5), norm

    def forward(
        self, tokens: Float[Tensor, "b n d"], time: Float[Tensor, "b f d"], grid: tuple[int, int, int]
    ) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)."""
        shift, scale = (per_token(part, grid) for part in (time[:, :, None] + self.table).unbind(2))
        return mix(shift, 1 + scale, self.norm(tokens))

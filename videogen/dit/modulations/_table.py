"""Tables that are added to signals of all blocks, or to the embedded timestep."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import mix
from videogen.dit.blocks import BlockCondition
from videogen.dit.branch import Branch, branches, per_token


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

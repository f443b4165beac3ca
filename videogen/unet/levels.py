"""The two ways of the U-Net: cells of one resolution after another, down to the coarsest level and up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.unet.layers import Downsample, ResBlock, TimeConv, UNetCondition, Upsample
from videogen.unet.transformers import SpatialTransformer, TemporalTransformer


class Cell(nn.Module):
    """A residual block, then, where there are any, a convolution along time and attention within frames and along time.

    https://arxiv.org/abs/2308.06571, figure 3.
    """

    def __init__(
        self,
        res: ResBlock,
        time_conv: TimeConv | None,
        space: SpatialTransformer | None,
        temporal: TemporalTransformer | None,
    ) -> None:
        super().__init__()
        self.res, self.time_conv, self.space, self.temporal = res, time_conv, space, temporal

    def forward(self, x: Float[Tensor, "bt c h w"], condition: UNetCondition) -> Float[Tensor, "bt c_out h w"]:
        """(B * T, C, H, W) -> (B * T, C_out, H, W)."""
        for layer in (self.res, self.time_conv, self.space, self.temporal):
            if layer is not None:
                x = layer(x, condition)
        return x


class DownLevel(nn.Module):
    """The cells of one resolution on the way down, and the halving behind them, if there is one."""

    def __init__(self, cells: list[Cell], resample: Downsample | None) -> None:
        super().__init__()
        self.cells, self.resample = nn.ModuleList(cells), resample

    def forward(self, x: Tensor, condition: UNetCondition, skips: list[Tensor]) -> Tensor:
        """(B * T, C, H, W) -> half of it; each result on the way is appended to `skips`."""
        for cell in self.cells:
            x = cell(x, condition)
            skips.append(x)
        if self.resample is not None:
            x = self.resample(x)
            skips.append(x)
        return x


class UpLevel(nn.Module):
    """The cells of one resolution on the way up, and the doubling behind them, if there is one."""

    def __init__(self, cells: list[Cell], resample: Upsample | None) -> None:
        super().__init__()
        self.cells, self.resample = nn.ModuleList(cells), resample

    def forward(self, x: Tensor, condition: UNetCondition, skips: list[Tensor]) -> Tensor:
        """(B * T, C, H, W) -> twice of it; each cell takes the last of `skips` along."""
        for cell in self.cells:
            x = cell(torch.cat([x, skips.pop()], dim=1), condition)
        if self.resample is not None:
            # back to the size that was halved, which may have been odd
            x = self.resample(x, (skips[-1].shape[2], skips[-1].shape[3]))
        return x


#: makes a cell from its channels in and out and whether it attends
MakeCell = Callable[[int, int, bool], Cell]


def way_down(base: int, widths: Sequence[int], blocks: int, attends: Sequence[bool], cell: MakeCell) -> list[DownLevel]:
    """The levels from the finest to the coarsest, each of `blocks` cells; the first takes `base` channels."""
    levels = []
    for index, width in enumerate(widths):
        source = widths[index - 1] if index else base
        cells = [cell(width if block else source, width, attends[index]) for block in range(blocks)]
        levels.append(DownLevel(cells, Downsample(width) if index < len(widths) - 1 else None))
    return levels


def way_up(base: int, widths: Sequence[int], blocks: int, attends: Sequence[bool], cell: MakeCell) -> list[UpLevel]:
    """The levels from the coarsest to the finest, each of a cell more than on the way down, to match its skips."""
    skips = [base]
    for index, width in enumerate(widths):
        skips += [width] * (blocks + (index < len(widths) - 1))
    levels, source = [], widths[-1]
    for index, width in reversed(list(enumerate(widths))):
        cells = []
        for _ in range(blocks + 1):
            cells.append(cell(source + skips.pop(), width, attends[index]))
            source = width
        levels.append(UpLevel(cells, Upsample(width) if index else None))
    return levels

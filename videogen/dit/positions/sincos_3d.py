"""A fixed sin-cos code of time, width and height that is added to the tokens: CogVideoX 2B's."""

from __future__ import annotations

import functools
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.patterns import from_first
from videogen.dit.positions import POSITIONS


@POSITIONS.register("sincos_3d")
class SinCos3D(nn.Module):
    """Sines, then cosines of each axis: about 1/4 of the channels for time, then 3/8 for columns, then 3/8 for rows.

    The code of https://arxiv.org/abs/1706.03762, section 3.5, as CogVideoX 2B has it (https://arxiv.org/abs/2408.06072).

    Args:
        dim: width of the tokens, even and at least 6.
        num_heads: of no use here.
        scale: what places are divided by on (t, y, x).

    Raises:
        ValueError: another width.
    """

    conditions: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, dim: int, num_heads: int, *, scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        super().__init__()
        if dim % 2 or dim < 6:
            raise ValueError(f"dim {dim} can't be shared out to three axes: sincos_3d needs an even one of 6 or more")
        if min(scale) <= 0:
            raise ValueError(f"scale {scale} divides places: give numbers above 0")
        self.dim, self.scale = dim, scale

    def add(
        self, tokens: Float[Tensor, "b n d"], grid: tuple[int, int, int], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n d"]:
        """The tokens with their code; in a padded batch places count from a clip's own first token."""
        # a compiled graph must own its tensors, so it computes the table itself
        table = _table if torch.compiler.is_compiling() else _cached_table
        code = table(grid, self.dim, self.scale, tokens.device)
        return tokens + (code if valid is None else code[from_first(valid, grid)]).to(tokens.dtype)

    def rotary(self, grid: tuple[int, int, int], device: torch.device, fps: Float[Tensor, " b"] | None = None) -> None:
        """None."""


def _table(
    grid: tuple[int, int, int], dim: int, scale: tuple[float, float, float], device: torch.device
) -> Float[Tensor, "n d"]:
    # the table outlives the call: made under inference_mode, autograd would refuse it in a later training step
    with torch.inference_mode(False), torch.no_grad():
        codes, space = [], 2 * (3 * dim // 16)
        for axis, channels in ((0, dim - 2 * space), (2, space), (1, space)):
            half = torch.arange(channels // 2, dtype=torch.float64, device="cpu")
            place = torch.arange(grid[axis], dtype=torch.float64, device="cpu") / scale[axis]
            angle = torch.outer(place, 10000.0 ** (-half / (channels // 2)))
            shape = [1, 1, 1, channels]
            shape[axis] = grid[axis]
            codes.append(torch.cat([angle.sin(), angle.cos()], -1).view(shape).expand(*grid, -1))
        return torch.cat(codes, -1).flatten(0, 2).float().to(device)


_cached_table = functools.lru_cache(maxsize=32)(_table)

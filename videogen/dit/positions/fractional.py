"""Rotary positions in seconds and pixels, as fractions of a largest video: LTX-Video's."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.positions import POSITIONS
from videogen.dit.rotary import Rotary, rotary

Three = tuple[float, float, float]


@POSITIONS.register("fractional")
class FractionalRoPE(nn.Module):
    """RoPE over the whole width of the tokens, so that heads turn at different speeds, https://arxiv.org/abs/2501.00103.

    A token's coordinate on an axis is its place in seconds or pixels as a fraction x of `extent`. Its dim / 6 pairs on
    each axis turn by pi / 2 * theta ** (i / (dim / 6 - 1)) * (2 x - 1); pairs of time, height and width alternate.
    Channels that six doesn't divide are the first ones, and don't turn.

    Args:
        dim: width of the tokens, at least 12.
        num_heads: attention heads.
        theta: how many times faster the fastest pair turns than the slowest.
        extent: seconds, rows and columns of pixels that the fractions are of.
        stride: frames, rows and columns of the video that a token stands for.
        default_fps: frames a second where the condition tells none; None makes them required.
        precision: of the angles. The fast pairs turn by thousands of radians, of which float32 keeps three decimals:
            weights that were trained with such angles need them again.

    Raises:
        ValueError: too few channels, heads of an odd number of them, or numbers that must be above 0 and aren't.
    """

    conditions: ClassVar[frozenset[str]] = frozenset({"fps"})

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        theta: float = 10000.0,
        extent: tuple[float, float, float] = (20.0, 2048.0, 2048.0),
        stride: tuple[int, int, int] = (8, 32, 32),
        default_fps: float | None = 25.0,
        precision: Literal["float32", "float64"] = "float64",
    ) -> None:
        super().__init__()
        if dim < 12:
            raise ValueError(f"dim {dim} has less than two pairs for each of three axes: at least 12")
        if dim // num_heads % 2:
            raise ValueError(f"heads of {dim // num_heads} channels, which turn in pairs: use an even number")
        if min(theta, *extent, *stride, 1.0 if default_fps is None else default_fps) <= 0:
            raise ValueError(
                f"theta={theta}, extent={extent}, stride={stride}, default_fps={default_fps}: give numbers above 0"
            )
        self.dim, self.num_heads, self.theta, self.default_fps = dim, num_heads, theta, default_fps
        self.extent, self.stride, self.dtype = extent, stride, getattr(torch, precision)

    def add(
        self, tokens: Float[Tensor, "b n d"], grid: tuple[int, int, int], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n d"]:
        """The tokens."""
        return tokens

    def rotary(self, grid: tuple[int, int, int], device: torch.device, fps: Tensor | None = None) -> Rotary:
        """The turns of the grid's tokens, one table for all clips if they have the same frames a second.

        Raises:
            ValueError: no frames a second.
        """
        if fps is None and self.default_fps is None:
            raise ValueError("condition.fps is missing and positions are in seconds: give it, or set default_fps")
        settings = self.dim, self.num_heads, self.theta, self.extent, self.stride, self.dtype
        if torch.compiler.is_compiling():
            # a graph must neither stop for the numbers of a tensor nor share its tensors
            rates = torch.tensor([self.default_fps], dtype=torch.float64) if fps is None else fps
            return _table(grid, rates, *settings, device)
        told = [self.default_fps] if fps is None else fps.tolist()
        return _cached_table(grid, tuple(told[:1] if len(set(told)) == 1 else told), *settings, device)


def _table(
    grid: tuple[int, int, int],
    fps: Tensor,
    dim: int,
    num_heads: int,
    theta: float,
    extent: Three,
    stride: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> Rotary:
    # the table outlives the call: made under inference_mode, autograd would refuse it in a later training step
    with torch.inference_mode(False), torch.no_grad():
        count = dim // 6
        fps = fps.to(dtype)
        frequency = theta ** torch.linspace(0.0, 1.0, count, dtype=dtype, device=fps.device) * math.pi / 2
        angles = []
        for axis, length in enumerate(grid):
            index = torch.arange(length, dtype=dtype, device=fps.device)
            # in float32 the order of these products shows
            place = index * (stride[0] / fps[:, None]) if axis == 0 else index[None] * float(stride[axis])
            fraction = place / extent[axis]
            shape = [-1, 1, 1, 1, count]
            shape[axis + 1] = length
            angles.append((frequency * (2 * fraction - 1)[..., None]).view(shape).expand(len(fps), *grid, -1))
        turns = torch.stack(angles, dim=-1).flatten(-2).flatten(1, 3)
        still = turns.new_zeros(*turns.shape[:2], dim // 2 - 3 * count)
        heads = torch.cat([still, turns], dim=-1).view(*turns.shape[:2], num_heads, -1)
        return rotary([heads], "interleaved", device)


@functools.lru_cache(maxsize=4)
def _cached_table(grid: tuple[int, int, int], fps: tuple[float, ...], *settings: Any) -> Rotary:
    # float64 on the host, as mps has none
    found = _table(grid, torch.tensor(fps, dtype=torch.float64), *settings)
    return found if len(fps) > 1 else Rotary(found.cos[0], found.sin[0], found.runs)

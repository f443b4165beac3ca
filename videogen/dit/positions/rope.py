"""Rotary position embedding on three axes: time, height and width."""

from __future__ import annotations

import functools
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.codes import centred_code
from videogen.dit.patterns import from_first
from videogen.dit.positions import POSITIONS
from videogen.dit.rotary import Pairs, Rotary, rotary


@POSITIONS.register("rope")
class RoPE(nn.Module):
    """Three-axis RoPE, https://arxiv.org/abs/2104.09864: a head's channels are shared out to time, height and width.

    The angle of pair i of an axis with d channels is position / scale * theta ** (-2 i / d) (eq. 15). Positions count
    from 0 on each axis; only their differences reach the attention scores.

    Args:
        dim: width of the tokens.
        num_heads: attention heads; head_dim = dim / num_heads.
        split: channels of a head that turn with (t, y, x), even; those left over don't turn. None is about 1/4, 3/8
            and 3/8, e.g. (16, 24, 24) of 64. (16, 56, 56) is Hunyuan's, thirds are Open-Sora-Plan's and Allegro's.
        theta: base of the frequencies.
        pairs: which two channels turn together, see `videogen.dit.rotary.rotary`.
        scale: what positions are divided by on (t, y, x): above 1, a larger grid is squeezed into the trained one.
        absolute: add a fixed sin-cos code to the tokens as well.
        fit: rows and columns of a grid into which every other is squeezed or stretched, with its shape kept, in the
            middle, as CogVideoX 1.0 does; None counts tokens.
        learned: the grid of which each place has a code of its own as well, added to the token, as CogVideoX-5B-I2V
            has; the codes come with its weights and aren't trained further. Other grids have none, and are refused.

    Raises:
        ValueError: a split that isn't even or doesn't fit head_dim.
    """

    conditions: ClassVar[frozenset[str]] = frozenset()
    codes: Tensor | None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        split: tuple[int, int, int] | None = None,
        theta: float = 10000.0,
        pairs: Pairs = "half",
        scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
        absolute: bool = False,
        fit: tuple[int, int] | None = None,
        learned: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.head_dim, self.absolute = dim, dim // num_heads, absolute
        self.split = split_head_dim(self.head_dim) if split is None else split
        if any(channels % 2 or channels < 0 for channels in self.split) or sum(self.split) > self.head_dim:
            raise ValueError(f"split {self.split} must be even numbers that fit a head_dim of {self.head_dim}")
        if min(scale) <= 0:
            raise ValueError(f"scale {scale} divides positions: give numbers above 0")
        if fit is not None and min(fit) < 1:
            raise ValueError(f"fit {fit} is a grid of rows and columns: give numbers above 0")
        if learned is not None and min(learned) < 1:
            raise ValueError(f"learned {learned} is a grid of frames, rows and columns: give numbers above 0")
        self.theta, self.pairs, self.scale, self.fit, self.learned = theta, pairs, scale, fit, learned
        codes = None if learned is None else centred_code(learned, dim, torch.get_default_device())[0]
        self.register_buffer("codes", codes)

    def add(
        self, tokens: Float[Tensor, "b n d"], grid: tuple[int, int, int], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n d"]:
        """The tokens, with their sin-cos code if `absolute`, and that of their place if `learned`.

        Raises:
            ValueError: a padded batch with `fit`, which would squeeze the padding too, or another grid than the
                learned one.
        """
        if self.fit is not None and valid is not None:
            raise ValueError(f"fit={self.fit} squeezes whole grids: give clips of one size, without `valid`")
        if self.codes is not None:
            if grid != tuple(self.learned or ()):
                raise ValueError(
                    f"a grid of {grid} tokens: this model has learnt the places of {self.learned} alone, so give "
                    "latents of that size"
                )
            codes = self.codes if valid is None else self.codes[from_first(valid, grid)]
            tokens = tokens + codes.to(tokens.dtype)
        if not self.absolute:
            return tokens
        return tokens + centred_code(grid, self.dim, tokens.device, valid).to(tokens.dtype)

    def rotary(self, grid: tuple[int, int, int], device: torch.device, fps: Tensor | None = None) -> Rotary:
        """The turns of the grid's tokens, time outermost."""
        # a compiled graph must own its tensors (CUDA graphs reuse their memory), so it computes the table itself
        table = _table if torch.compiler.is_compiling() else _cached_table
        return table(grid, self.head_dim, self.split, self.theta, self.pairs, self.scale, self.fit, device)


def split_head_dim(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that turn with (t, y, x): about 1/4, 3/8 and 3/8, all even, e.g. 64 -> (16, 24, 24).

    Raises:
        ValueError: head_dim is odd or below 6, so that three even parts don't exist.
    """
    if head_dim % 2 or head_dim < 6:
        raise ValueError(f"head_dim {head_dim} has no three even parts: choose dim / num_heads even and at least 6")
    space = 2 * (3 * head_dim // 16)
    return head_dim - 2 * space, space, space


def _table(
    grid: tuple[int, int, int],
    head_dim: int,
    split: tuple[int, int, int],
    theta: float,
    pairs: Pairs,
    scale: tuple[float, float, float],
    fit: tuple[int, int] | None,
    device: torch.device,
) -> Rotary:
    # the table outlives the call: made under inference_mode, autograd would refuse it in a later training step
    with torch.inference_mode(False), torch.no_grad():
        places = _places(grid, fit)
        angles = []
        for axis, channels in enumerate(split):
            # float64 on the host: positions times frequencies lose digits in float32, and mps has no float64
            frequency = theta ** (-torch.arange(0, channels, 2, dtype=torch.float64, device="cpu") / channels)
            angle = torch.outer(places[axis] / scale[axis], frequency)
            shape = [1, 1, 1, channels // 2]
            shape[axis] = grid[axis]
            angles.append(angle.view(shape).expand(*grid, -1).flatten(0, 2)[:, None])
        if rest := head_dim - sum(split):
            angles.append(angles[0].new_zeros(len(angles[0]), 1, rest // 2))
        return rotary(angles, pairs, device)


def _places(grid: tuple[int, int, int], fit: tuple[int, int] | None) -> list[Tensor]:
    """Where the tokens stand on each axis, float64 on the host."""
    places = [torch.arange(length, dtype=torch.float64, device="cpu") for length in grid]
    if fit is None:
        return places
    (_, rows, columns), (height, width) = grid, fit
    taller = rows * width > columns * height
    sizes = (height, round(height / rows * columns)) if taller else (round(width / columns * rows), width)
    for axis, (whole, size) in enumerate(zip(fit, sizes, strict=True), start=1):
        start = round((whole - size) / 2)
        # the last place is a share of where the squeezed grid ends, as in the published code, not of its size
        last = (start + size) * (grid[axis] - 1) / grid[axis]
        places[axis] = torch.linspace(start, last, grid[axis], dtype=torch.float64, device="cpu")
    return places


_cached_table = functools.lru_cache(maxsize=32)(_table)

"""Rotary position embedding on three axes: time, height and width."""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor

Rotary = tuple[Float[Tensor, "n half_head_dim"], Float[Tensor, "n half_head_dim"]]


def split_head_dim(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that turn with (t, y, x): about 1/4, 3/8 and 3/8, all even, e.g. 64 -> (16, 24, 24).

    Raises:
        ValueError: head_dim is odd or below 6, so that three even parts don't exist.
    """
    if head_dim % 2 or head_dim < 6:
        raise ValueError(f"head_dim {head_dim} has no three even parts: choose dim / num_heads even and at least 6")
    space = 2 * (3 * head_dim // 16)
    return head_dim - 2 * space, space, space


def rotary_table(grid: tuple[int, int, int], head_dim: int, theta: float, device: torch.device) -> Rotary:
    """Cosine and sine of every token's angles on a (T, H, W) grid, time outermost: float32, (N, head_dim / 2) each.

    The angle of channel pair i of an axis with d channels is position * theta ** (-2 i / d), https://arxiv.org/abs/2104.09864,
    eq. 15. Positions count from 0 on each axis; only their differences reach the attention scores.

    Raises:
        ValueError: see `split_head_dim`.
    """
    # a compiled graph must own its tensors (CUDA graphs reuse their memory), so it computes the table itself
    table = _rotary_table if torch.compiler.is_compiling() else _cached_rotary_table
    return table(grid, head_dim, theta, device)


def _rotary_table(grid: tuple[int, int, int], head_dim: int, theta: float, device: torch.device) -> Rotary:
    # the table outlives the call: made under inference_mode, autograd would refuse it in a later training step
    with torch.inference_mode(False), torch.no_grad():
        angles = []
        for axis, (length, channels) in enumerate(zip(grid, split_head_dim(head_dim), strict=True)):
            # float64 on the host: positions times frequencies lose digits in float32, and mps has no float64
            frequency = theta ** (-torch.arange(0, channels, 2, dtype=torch.float64, device="cpu") / channels)
            angle = torch.outer(torch.arange(length, dtype=torch.float64, device="cpu"), frequency)
            shape = [1, 1, 1, channels // 2]
            shape[axis] = length
            angles.append(angle.view(shape).expand(*grid, -1))
        joined = torch.cat(angles, dim=-1).flatten(0, 2)
        return joined.cos().float().to(device), joined.sin().float().to(device)


_cached_rotary_table = functools.lru_cache(maxsize=32)(_rotary_table)


def rotate(x: Float[Tensor, "b heads n head_dim"], rotary: Rotary) -> Float[Tensor, "b heads n head_dim"]:
    """Turn each channel pair (i, i + head_dim / 2) by its token's angle, in float32 or wider; keeps the dtype of x."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    # two passes over x instead of the six of a product for each half
    turned = torch.addcmul(x * torch.cat([cos, cos], -1), torch.cat([second, first], -1), torch.cat([-sin, sin], -1))
    return turned.to(x.dtype)

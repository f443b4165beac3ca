"""Rotary position embedding: a table of turns, and how queries and keys are turned by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from videogen.dit.arithmetic import mix, scaled
from videogen.kernels import Axes

Pairs = Literal["half", "axis_half", "interleaved"]


class Rotary(NamedTuple):
    """The turn of every channel pair of every token.

    Args:
        cos: (N, 1 or heads, head_dim), or (B, N, …) for clips of different turns: the cosine of a pair's angle, at both
            of its channels.
        sin: of the same shape: the sine, negative at a pair's first channel.
        runs: channels whose halves are each other's partners, from the front; (2,) repeats to the end.
    """

    cos: Float[Tensor, "*b n heads_or_1 head_dim"]
    sin: Float[Tensor, "*b n heads_or_1 head_dim"]
    runs: tuple[int, ...]

    def turn(self, x: Float[Tensor, "b n heads head_dim"]) -> Float[Tensor, "b n heads head_dim"]:
        """Queries or keys, each pair of channels turned by its token's angle, in float32 or wider; keeps the dtype."""
        wide = x.to(torch.promote_types(x.dtype, self.cos.dtype))
        if self.runs == (2,) and not torch.compiler.is_compiling():
            # neighbours are the parts of a complex number, which is turned in one pass; no compiler knows of those
            turns = torch.complex(self.cos[..., ::2], self.sin[..., 1::2])
            turned = scaled(torch.view_as_complex(wide.unflatten(-1, (-1, 2))), turns, wide is not x)
            return torch.view_as_real(turned).flatten(-2).to(x.dtype)
        # two passes over x instead of the six of a product for each half
        partners = _partners(wide, self.runs)
        return mix(scaled(wide, self.cos, wide is not x), self.sin, partners).to(x.dtype)

    def gathered(self, axes: Axes) -> Rotary:
        """For tokens in the order of `axes.gather`."""
        if self.cos.ndim == 3:
            return Rotary(axes.gather(self.cos[None])[0], axes.gather(self.sin[None])[0], self.runs)
        return Rotary(axes.gather(self.cos), axes.gather(self.sin), self.runs)

    def moved(self, index: Int[Tensor, "b n"]) -> Rotary:
        """Each token of a sample turned as the one at that index of the grid."""
        if self.cos.ndim == 3:
            return Rotary(self.cos[index], self.sin[index], self.runs)
        samples = torch.arange(len(index), device=index.device)[:, None]
        return Rotary(self.cos[samples, index], self.sin[samples, index], self.runs)


def rotary(angles: Sequence[Float[Tensor, "*b n heads_or_1 _"]], pairs: Pairs, device: torch.device) -> Rotary:
    """The table for the angles of each axis in turn, in float64, kept in float32.

    Args:
        angles: an axis: of each token, one for all heads or one each, and each pair of channels.
        pairs: which two channels turn together: "half" i and i + head_dim / 2 over the whole head (GPT-NeoX),
            "axis_half" the same within each axis's channels, "interleaved" 2 i and 2 i + 1 (RoFormer).
    """
    joined = torch.cat(list(angles), dim=-1)
    if pairs == "interleaved":
        cos, sin = joined.cos().repeat_interleave(2, -1), joined.sin().repeat_interleave(2, -1)
        sin[..., ::2] *= -1
        runs: tuple[int, ...] = (2,)
    else:
        groups = [joined] if pairs == "half" else list(angles)
        cos = torch.cat([part.cos() for group in groups for part in (group, group)], -1)
        sin = torch.cat([part for group in groups for part in (-group.sin(), group.sin())], -1)
        runs = tuple(2 * group.shape[-1] for group in groups)
    return Rotary(cos.float().to(device), sin.float().to(device), runs)


def _partners(x: Tensor, runs: tuple[int, ...]) -> Tensor:
    """Each channel's partner at its place."""
    if runs == (2,):
        return rearrange(rearrange(x, "... (c two) -> ... c two", two=2).flip(-1), "... c two -> ... (c two)")
    halves = torch.split(x, [length // 2 for run in runs for length in (run, run)], dim=-1)
    swapped = [halves[i + 1 - 2 * (i % 2)] for i in range(len(halves))]
    return torch.cat(swapped, dim=-1)

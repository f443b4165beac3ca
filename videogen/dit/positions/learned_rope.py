"""Rotary position embedding whose frequencies are learned, for each head its own, on all axes at once: Mochi's."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.autocast import without_autocast
from videogen.dit.positions import POSITIONS
from videogen.dit.rotary import Rotary, rotary


@POSITIONS.register("learned_rope")
class LearnedRoPE(nn.Module):
    """Each pair of channels turns with a learned mixture of t, y and x: https://arxiv.org/abs/2403.13298, section 3.2.

    Places are measured as Mochi 1 does (https://github.com/genmoai/mochi): frames from the first, rows and columns
    from the centre, in a unit that gives every grid the same area.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        area: of a frame, in that unit.
        theta: base of the frequencies at the start, which are plain RoPE's: pairs in turn on time, height and width.

    Raises:
        ValueError: an odd head_dim.
    """

    conditions: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, dim: int, num_heads: int, *, area: float = 192.0 * 192.0, theta: float = 10000.0) -> None:
        super().__init__()
        pairs, rest = divmod(dim // num_heads, 2)
        if rest:
            raise ValueError(f"head_dim {dim // num_heads} has no pairs of channels: choose dim / num_heads even")
        self.area = area
        start = torch.zeros(3, num_heads, pairs)
        for axis in range(3):
            count = len(range(axis, pairs, 3))
            start[axis, :, axis::3] = theta ** -(torch.arange(count) / max(count, 1))
        self.frequencies = nn.Parameter(start)

    def add(
        self, tokens: Float[Tensor, "b n d"], grid: tuple[int, int, int], valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n d"]:
        """The tokens.

        Raises:
            ValueError: a padded batch, in which the unit would be that of the padding.
        """
        if valid is not None:
            raise ValueError("learned_rope measures a clip by its whole grid: give clips of one size, without `valid`")
        return tokens

    def rotary(
        self, grid: tuple[int, int, int], device: torch.device, fps: Float[Tensor, " b"] | None = None
    ) -> Rotary:
        """The turns of the grid's tokens, time outermost."""
        frames, rows, columns = grid
        unit = (self.area / (rows * columns)) ** 0.5
        axes = [torch.arange(frames, dtype=torch.float32, device=device)]
        axes += [(torch.arange(n, dtype=torch.float32, device=device) + 0.5 - n / 2) * unit for n in (rows, columns)]
        # autocast would round places of some hundreds
        with without_autocast(device):
            angles = torch.einsum("na,ahp->nhp", torch.cartesian_prod(*axes), self.frequencies.float())
        return rotary([angles], "interleaved", device)

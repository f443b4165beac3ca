"""Latent consistency sampling: jump to clean latents, go back up with fresh noise, in a handful of steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from videogen.schedulers import SCHEDULERS, Size
from videogen.schedulers._shared import shaped
from videogen.schedulers._solver import Denoise, Solver, Step, scale

if TYPE_CHECKING:
    from videogen.schedulers import Draw

#: of the boundary condition (Luo et al., arXiv 2310.04378, section 4.1)
SIGMA_DATA = 0.5


@SCHEDULERS.register("lcm")
@dataclasses.dataclass(eq=False)
class LCM(Solver):
    """Multistep consistency sampling (Luo et al., arXiv 2310.04378, algorithm 3), for models distilled to jump to data.

    Each step goes to x0 and from there, with fresh noise, up to the next level; the last stays at x0. A model that
    isn't distilled gives blurred samples in few steps.

    Args:
        original_steps: of the evenly spaced times that the model was distilled on; the walk visits some of them. 0
            takes the times of `spacing`.
        boundary_scale: what time, in thousandths of the schedule, is multiplied by where the sample itself and x0 are
            mixed, so that near data the sample stays; 0 mixes nothing.

    Raises:
        ValueError: a knob out of range.
    """

    _: dataclasses.KW_ONLY
    original_steps: int = 50
    boundary_scale: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.original_steps < 0:
            raise ValueError(f"original_steps={self.original_steps}: at least 1, or 0 for the times of `spacing`")
        if self.boundary_scale < 0:
            raise ValueError(f"boundary_scale={self.boundary_scale}: at least 0; 0 mixes nothing")

    @property
    def stochastic(self) -> bool:
        """True: every step but the last draws."""
        return True

    def timesteps(self, steps: int, size: Size | None = None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64: of the original ones, evenly by their index.

        Raises:
            ValueError: no step, or more than there are original ones.
        """
        if not self.original_steps:
            return super().timesteps(steps, size)
        if not 1 <= steps <= self.original_steps:
            raise ValueError(f"steps={steps}: from 1 to original_steps={self.original_steps}")
        every = super().timesteps(self.original_steps, size)
        chosen = torch.arange(steps) * self.original_steps // steps
        return torch.cat([every[chosen], every[-1:]])

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...)."""
        data, end = (self.noise.time_of(*ends) for ends in torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double())
        for step in steps:
            x0, _ = denoise(x, step.time)
            if self.boundary_scale:
                thousandths = (1000 * (step.time - data) / (end - data) - 1).clamp(min=0)
                place = shaped(self.boundary_scale * thousandths, x)
                norm = place.square() + SIGMA_DATA**2
                x0 = scale(place / norm.sqrt(), x0) + scale(SIGMA_DATA**2 / norm, x)
            x = scale(step.next_alpha, x0)
            if bool((step.next_sigma > 0).any()):
                x = x + scale(step.next_sigma, draw())
            yield x

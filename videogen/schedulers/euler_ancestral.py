"""Ancestral Euler steps: further down than the next noise level, and back up to it by fresh noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._solver import Denoise, Solver, Step, scale

if TYPE_CHECKING:
    from videogen.schedulers import Draw


@SCHEDULERS.register("euler_ancestral")
@dataclasses.dataclass(eq=False)
class EulerAncestral(Solver):
    """Euler steps with fresh noise: DDIM with eta (Song et al., arXiv 2010.02502, eq. 16) on any noise schedule.

    Args:
        eta: 0 to 1, how random a step is: 0 is Euler's, 1 draws from the exact reversal of the noising from the next
            level up to this, as DDPM does.

    Raises:
        ValueError: a knob out of range.
    """

    _: dataclasses.KW_ONLY
    eta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta} lies outside [0, 1]: 0 adds no noise, 1 as much as DDPM")

    @property
    def stochastic(self) -> bool:
        """Whether a step draws: for any eta but 0."""
        return self.eta > 0

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...)."""
        for step in steps:
            x0, noise = denoise(x, step.time)
            # of the next level's variance a share is drawn, the more the further down the step goes
            up = self.eta * step.next_sigma * (1 - step.decay.square()).clamp(min=0).sqrt()
            down = (step.next_sigma.square() - up.square()).clamp(min=0).sqrt()
            x = scale(step.next_alpha, x0) + scale(down, noise)
            if self.stochastic:
                x = x + scale(up, draw())
            yield x

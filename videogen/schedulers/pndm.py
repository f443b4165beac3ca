"""PNDM: a linear multistep method on the predicted noise; four past predictions, one new a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._solver import Denoise, Solver, Step, scale

if TYPE_CHECKING:
    from videogen.schedulers import Draw

#: Adams and Bashforth's weights, of the newest slope first, by the number of slopes
ADAMS_BASHFORTH = {
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@SCHEDULERS.register("pndm")
@dataclasses.dataclass(eq=False)
class PNDM(Solver):
    """Pseudo numerical methods on manifolds (Liu et al., arXiv 2202.09778): DDIM's transfer of a combined noise.

    The noise that a step transfers is a combination of the last four (eq. 12 of the paper), each of equal steps before
    it. The first steps have fewer; the very first is made twice, the second time with the mean of the noise at its two
    ends, as is common for latent models, in place of the paper's Runge-Kutta steps: one prediction more than steps.
    Of second order.
    """

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...)."""
        past: list[Tensor] = []
        for step in steps:
            x0, noise = denoise(x, step.time)
            past = [noise, *past[:3]]
            x = step.euler(x0, noise)
            if len(past) > 1:
                weights = ADAMS_BASHFORTH[len(past)]
                combined = sum((weight * slope for weight, slope in zip(weights, past, strict=True)), -noise)
                x = x + scale(step.slope_weight, combined)
            elif bool((half := step.slope_weight.where(step.next_sigma > 0, 0.0) / 2).any()):
                _, ahead = denoise(x, step.next_time)
                x = x + scale(half, ahead - noise)
            yield x

"""Heun's method: a second prediction at the end of each step corrects it; second order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._solver import Denoise, Solver, Step, scale

if TYPE_CHECKING:
    from videogen.schedulers import Draw


@SCHEDULERS.register("heun")
@dataclasses.dataclass(eq=False)
class Heun(Solver):
    """Heun's method without churn (Karras et al., arXiv 2206.00364, algorithm 1), two predictions a step.

    In the scale where alpha is 1 the noise is the slope of x over sigma / alpha; that of a step is the mean of both
    ends. A step that ends on data is Euler's, as in the paper, and so is one that starts at noise without data, where
    that scale ends.
    """

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...)."""
        for step in steps:
            x0, noise = denoise(x, step.time)
            x = step.euler(x0, noise)
            half = step.slope_weight.where(step.next_sigma > 0, 0.0) / 2
            if bool(half.any()):
                _, next_noise = denoise(x, step.next_time)
                x = x + scale(half, next_noise - noise)
            yield x

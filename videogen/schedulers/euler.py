"""Euler's method: one prediction a step, first order; DDIM without noise on whatever schedule the network knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._solver import Denoise, Solver, Step

if TYPE_CHECKING:
    from videogen.schedulers import Draw


@SCHEDULERS.register("euler")
@dataclasses.dataclass(eq=False)
class Euler(Solver):
    """Euler steps of the probability flow (Karras et al., arXiv 2206.00364, algorithm 1 of first order).

    x' = alpha' * x0 + sigma' * noise: the same in any scale of x, so that on a rectified flow it is that flow's Euler
    step, and on DDPM's schedule DDIM's (arXiv 2010.02502, eq. 12).
    """

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...)."""
        for step in steps:
            x = step.euler(*denoise(x, step.time))
            yield x

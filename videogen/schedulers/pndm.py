"""PNDM: a linear multistep method on the predicted noise; four past predictions, one new a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._shared import check_choice, shaped
from videogen.schedulers._solver import Denoise, Solver, Step, scale

if TYPE_CHECKING:
    from videogen.schedulers import Draw

Nodes = Literal["levels", "steps"]
WarmUp = Literal["twice", "runge_kutta"]
# as many as it takes until there are four past noises
WARM_UP_STEPS = 3


@SCHEDULERS.register("pndm")
@dataclasses.dataclass(eq=False)
class PNDM(Solver):
    """Pseudo numerical methods on manifolds (Liu et al., arXiv 2202.09778): DDIM's transfer of a combined noise.

    The noise that a step transfers is a combination of the last four (Adams and Bashforth's, eq. 12 of the paper). The
    first steps have fewer, or are warmed up.

    Args:
        warm_up: twice: the very first step is made twice, the second time with the mean of the noise at its two ends,
            as is common for latent models: one prediction more than steps. runge_kutta: the first three are
            Runge-Kutta's of fourth order, with two predictions in the middle of the step's time (eq. 13 of the paper):
            nine more.
        nodes: where the past noises lie, through which a polynomial goes: levels, where they do, at their ratios of
            sigma and alpha; or steps, evenly apart, as published. Steps are nearly even where a chain is walked in many
            steps; in few, and on other schedules, they are not, and the published weights exaggerate.

    Raises:
        ValueError: a knob out of range.
    """

    _: dataclasses.KW_ONLY
    nodes: Nodes = "levels"
    warm_up: WarmUp = "twice"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("nodes", self.nodes, get_args(Nodes))
        check_choice("warm_up", self.warm_up, get_args(WarmUp))

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...)."""
        past: list[Tensor] = []
        for index, step in enumerate(steps):
            x0, noise = denoise(x, step.time)
            past = [noise, *past[:3]]
            if self.warm_up == "runge_kutta" and index < min(WARM_UP_STEPS, len(steps) - 1):
                x = self._runge_kutta(denoise, x, step, x0, noise)
                yield x
                continue
            x = step.euler(x0, noise)
            if len(past) > 1:
                weights = self._weights(step, steps[index - len(past) + 1 : index])
                combined = sum((scale(weight, slope) for weight, slope in zip(weights, past, strict=True)), -noise)
                x = x + scale(step.slope_weight, combined)
            elif bool((half := step.slope_weight.where(step.next_sigma > 0, 0.0) / 2).any()):
                _, ahead = denoise(x, step.next_time)
                x = x + scale(half, ahead - noise)
            yield x

    def _runge_kutta(self, denoise: Denoise, x: Tensor, step: Step, x0: Tensor, noise: Tensor) -> Tensor:
        """x after a step whose noise is a mean of four: at its start, twice in its middle, and at its end."""
        middle = (step.time + step.next_time) / 2
        levels = (shaped(level, x) for level in self.noise.alpha_sigma(middle))
        half = Step(step.time, middle, step.alpha, step.sigma, *levels)
        straight, halfway = step.euler(x0, noise), half.euler(x0, noise)
        _, second = denoise(halfway, middle)
        _, third = denoise(halfway + scale(half.slope_weight, second - noise), middle)
        _, fourth = denoise(straight + scale(step.slope_weight, third - noise), step.next_time)
        return straight + scale(step.slope_weight, (noise + 2 * second + 2 * third + fourth) / 6 - noise)

    def _weights(self, step: Step, before: list[Step]) -> list[Tensor]:
        """Of the noise at this step's start and at those of the steps before, the newest first; they add up to 1.

        They integrate over the step a polynomial through the noises: the sum of w_j u_j^k is 1 / (k + 1), with u the
        place in the step, 0 its start and 1 its end.
        """
        places = [torch.zeros_like(step.alpha)]
        for number, earlier in enumerate(reversed(before), start=1):
            even = torch.full_like(step.alpha, -number)
            places.append(self._place(step, earlier, even) if self.nodes == "levels" else even)
        rows = torch.stack([torch.stack(places, dim=-1) ** power for power in range(len(places))], dim=-2)
        wanted = 1 / torch.arange(1, len(places) + 1, dtype=rows.dtype).expand(rows.shape[:-1])
        return list(torch.linalg.solve(rows, wanted).unbind(-1))

    @staticmethod
    def _place(step: Step, earlier: Step, otherwise: Tensor) -> Tensor:
        """Where in the step an earlier level is: below 0; any place for a frame that stood still until now."""
        # noise without data is endlessly far, and so counts no more
        start, end, other = (
            sigma / alpha.clamp(min=1e-9)
            for sigma, alpha in (
                (step.sigma, step.alpha),
                (step.next_sigma, step.next_alpha),
                (earlier.sigma, earlier.alpha),
            )
        )
        place = (other - start) / (end - start).where(step.moves, 1.0)
        return place.where(step.moves & (place < -1e-6), otherwise)

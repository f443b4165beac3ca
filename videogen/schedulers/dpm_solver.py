"""DPM-Solver++: multistep exponential integrators of first to third order on predicted clean latents, ODE or SDE."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._shared import check_choice
from videogen.schedulers._solver import Denoise, Solver, Step, scale

if TYPE_CHECKING:
    from videogen.schedulers import Draw

Kind = Literal["ode", "sde"]
Order = Literal[1, 2, 3]
Second = Literal["midpoint", "heun"]
# below this many steps the last ones are of lower order (Lu et al., arXiv 2211.01095, appendix B)
FEW_STEPS = 15


@SCHEDULERS.register("dpm_solver")
@dataclasses.dataclass(eq=False)
class DPMSolver(Solver):
    """DPM-Solver++ (Lu et al., arXiv 2211.01095): exact but for x0, taken for a polynomial of log(alpha / sigma).

    Args:
        order: 1 (DDIM), 2 (2M) or 3 (3M), the number of predictions that the polynomial goes through.
        kind: ode, or sde, whose steps draw noise (section 5).
        second: of order 2, how the slope of x0 counts: midpoint, or heun, which integrates it exactly.
        curvature: of order 3, what the curvature of x0 counts. With 1 the method is of third order; the published code
            has 0.5, as its curvature is that of a parabola without the factor 2, and is of second.
        lower_order_final: whether of fewer than 15 steps the last ones are of lower order, down to 1.
        euler_at_final: whether the last of any number of steps is of first order; one that ends on data is anyway.

    Raises:
        ValueError: a knob out of range.
    """

    _: dataclasses.KW_ONLY
    order: Order = 2
    kind: Kind = "ode"
    second: Second = "midpoint"
    curvature: float = 1.0
    lower_order_final: bool = True
    euler_at_final: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("kind", self.kind, get_args(Kind))
        check_choice("second", self.second, get_args(Second))
        if self.order not in get_args(Order):
            raise ValueError(f"order={self.order}: 1, 2 or 3")

    @property
    def stochastic(self) -> bool:
        """Whether a step draws: that of the SDE."""
        return self.kind == "sde"

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...)."""
        past: list[Tensor] = []
        before: list[Tensor] = []
        for index, step in enumerate(steps):
            x0, _ = denoise(x, step.time)
            past = [x0, *past[:2]]
            width = step.width.where(step.moves, 1.0)
            widths, before = [width, *before], [width.where(step.alpha > 0, torch.inf), *before[:1]]
            order = min(self.order, len(past), self._highest(len(steps), len(steps) - index))
            # the SDE's exponentials are those of twice the width
            times = 2 if self.stochastic else 1
            x = scale(step.kept * step.decay ** (times - 1), x) + scale(step.next_alpha * (1 - step.decay**times), x0)
            if order > 1:
                x = x + self._bend(step, times, past[:order], widths)
            if self.stochastic:
                x = x + scale(step.next_sigma * (1 - step.decay.square()).clamp(min=0).sqrt(), draw())
            yield x

    def _highest(self, steps: int, left: int) -> int:
        """The highest order of a step of a walk of that many, with that many left."""
        if self.euler_at_final and left == 1:
            return 1
        return left if self.lower_order_final and steps < FEW_STEPS else self.order

    def _bend(self, step: Step, times: int, past: list[Tensor], widths: list[Tensor]) -> Tensor:
        """What the slope of x0 over log(alpha / sigma), and its curvature, add to a step with constant x0.

        Args:
            times: of the width that the exponentials of the step have.
            past: x0 of this step and of those before, the newest first; as many as the order.
            widths: in log(alpha / sigma), of this step, finite, and of those before, endless from noise without data:
                what was predicted there tells no slope.
        """
        # a step to data is endless in the logarithm, and no polynomial reaches that far
        alpha = step.next_alpha.where(step.moves & (step.next_sigma > 0), 0.0)
        decay, width = step.decay**times, times * widths[0]
        ratios = [before / widths[0] for before in widths[1:]]
        slope = scale(1 / ratios[0], past[0] - past[1])
        # the integrals of the exponential with the place in the step, and with half of its square
        first = (decay - 1) / width + 1
        second = 0.5 - first / width
        if len(past) == 2:
            return scale(alpha * ((1 - decay) / 2 if self.second == "midpoint" else first), slope)
        change = slope - scale(1 / ratios[1], past[1] - past[2])
        # where both are endless there is no slope to bend
        share = (ratios[0] / (ratios[0] + ratios[1])).where(ratios[0].isfinite(), 1.0)
        slope = slope + scale(share, change)
        curvature = scale(2 * self.curvature / (ratios[0] + ratios[1]), change)
        return scale(alpha * first, slope) + scale(alpha * second, curvature)

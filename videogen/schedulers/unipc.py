"""UniPC: a multistep predictor, and a corrector that uses the next step's prediction, at one prediction a step."""

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

Order = Literal[1, 2, 3]
Variant = Literal["bh1", "bh2"]


@SCHEDULERS.register("unipc")
@dataclasses.dataclass(eq=False)
class UniPC(Solver):
    """UniPC (Zhao et al., arXiv 2302.04867) on predicted clean latents.

    Args:
        order: 1 to 3, of the predictor; the corrector's is one higher.
        variant: of the function B(h) that the corrections are scaled by: bh1 is h, bh2 is exp(h) - 1 (section 3.1).
        corrector: whether to correct; without, order 2 is nearly dpm_solver's.
        lower_order_final: whether the last steps are of lower order, down to 1, as the published code has it: few steps
            are steadier so, but the walk is of second order then. One that ends on data is of first order anyway.

    Raises:
        ValueError: a knob out of range.
    """

    _: dataclasses.KW_ONLY
    order: Order = 2
    variant: Variant = "bh2"
    corrector: bool = True
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("variant", self.variant, get_args(Variant))
        if self.order not in get_args(Order):
            raise ValueError(f"order={self.order}: 1, 2 or 3")

    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: Draw) -> Iterator[Tensor]:
        """x after each step, (B, C, ...); a step's correction is in the next one, which knows its end."""
        past: list[Tensor] = []
        widths: list[Tensor] = []
        start, done, order = x, None, 1
        for index, step in enumerate(steps):
            x0, _ = denoise(x, step.time)
            if done is not None and self.corrector:
                x = self._update(done, start, past[:order], widths, x0)
            past, widths = [x0, *past[:2]], [step.width.where(step.moves, 1.0), *widths[:2]]
            order = min(self.order, len(past), len(steps) - index if self.lower_order_final else self.order)
            start, done = x, step
            x = self._update(step, start, past[:order], widths, None)
            yield x

    def _update(self, step: Step, x: Tensor, past: list[Tensor], widths: list[Tensor], end: Tensor | None) -> Tensor:
        """UniP, and UniC where x0 at the end is known (algorithms 2 and 1 with equations 8 and 9).

        Args:
            x: at the step's start.
            past: x0 at the step's start and before, the newest first; as many as the order.
            widths: in log(alpha / sigma), of this step and of those before, the newest first.
            end: x0 at the step's end.
        """
        moved = scale(step.kept, x) + scale(step.next_alpha * (1 - step.decay), past[0])
        nodes, slopes = [], []
        place = torch.zeros_like(widths[0])
        for before, width in zip(past[1:], widths[1:], strict=False):
            place = place - width / widths[0]
            nodes.append(place)
            slopes.append(scale(1 / place, before - past[0]))
        if end is not None:
            nodes.append(torch.ones_like(place))
            slopes.append(end - past[0])
        if not slopes:
            return moved
        factor = self._factor(step, widths[0])
        for weight, slope in zip(self._weights(nodes, -widths[0], factor), slopes, strict=True):
            # a step to data is endless in the logarithm: no slope counts there
            inside = step.moves & (step.next_sigma > 0)
            moved = moved - scale((step.next_alpha * factor * weight).where(inside, 0.0), slope)
        return moved

    def _factor(self, step: Step, width: Tensor) -> Tensor:
        return -width if self.variant == "bh1" else step.decay - 1

    @staticmethod
    def _weights(nodes: list[Tensor], exponent: Tensor, factor: Tensor) -> list[Tensor]:
        """The weights of the slopes, with which the step is exact for x0 of a polynomial (eq. 7); 1/2 of a single one.

        Args:
            nodes: places of the slopes' other ends in the step, 0 its start and 1 its end.
            exponent: -h.
            factor: B(h).
        """
        if len(nodes) == 1:
            return [torch.full_like(exponent, 0.5)]
        rows, wanted = [], []
        phi, factorial = torch.expm1(exponent) / exponent - 1, 1.0
        for power in range(len(nodes)):
            rows.append(torch.stack([node**power for node in nodes], dim=-1))
            wanted.append(phi * factorial / factor)
            factorial *= power + 2
            phi = phi / exponent - 1 / factorial
        solved = torch.linalg.solve(torch.stack(rows, dim=-2), torch.stack(wanted, dim=-1))
        return list(solved.unbind(-1))

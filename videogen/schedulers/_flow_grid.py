"""Which times between data (0) and noise (1) a rectified flow visits: even or linear-quadratic, then shifted."""

# annotations stay evaluated here: the knobs' types are read from the subclass, whose module needn't import them
import dataclasses
from typing import Literal, get_args

import torch
from torch import Tensor

from videogen.schedulers import Size
from videogen.schedulers._shared import check_choice
from videogen.schedulers._shift import Shift

Curve = Literal["even", "linear_quadratic"]


@dataclasses.dataclass(kw_only=True, eq=False)
class FlowGrid(Shift):
    """Times from 1 to 0, moved towards noise by the knobs of `Shift`.

    Args:
        curve: even, or linear_quadratic: the first half of the steps removes `threshold` of the noise in even steps,
            the others grow with the square (Movie Gen, arXiv 2410.13720, section 3.4.2; Mochi).
        threshold: see curve.
        shift_terminal: the time of the last prediction; the times are stretched to it (LTX-Video). 0 leaves them.

    Raises:
        ValueError: a knob out of range.
    """

    curve: Curve = "even"
    threshold: float = 0.025
    shift_terminal: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("curve", self.curve, get_args(Curve))
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} lies outside (0, 1): a small part of the noise, like 0.025")
        if not 0 <= self.shift_terminal < 1:
            raise ValueError(f"shift_terminal={self.shift_terminal} lies outside [0, 1): 0 leaves the times")

    def flow_times(self, steps: int, size: Size | None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64, from 1 to 0.

        Raises:
            ValueError: less than one step, or no size where the shift depends on it.
        """
        curved = self.curve == "linear_quadratic" and steps > 1
        times = shifted(linear_quadratic(steps, self.threshold) if curved else even(steps), self.shift_of(size))
        if self.shift_terminal and steps > 1:
            stretch = (1 - self.shift_terminal) / (1 - times[-2])
            times = torch.cat([1 - stretch * (1 - times[:-1]), times[-1:]])
        return times


def even(steps: int) -> Tensor:
    """From 1 to 0 in even steps, (steps + 1,) float64; ValueError for less than one step."""
    if steps < 1:
        raise ValueError(f"steps={steps}: at least 1")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def shifted(times: Tensor, shift: float) -> Tensor:
    """s -> shift * s / (1 + (shift - 1) * s)."""
    return shift * times / (1 + (shift - 1) * times)


def linear_quadratic(steps: int, threshold: float) -> Tensor:
    """1 - s goes evenly to `threshold` in half of the steps, then with the square of the step to 1, smoothly joined.

    (steps + 1,) float64, descending from 1 to 0.
    """
    half = steps // 2
    index, rest = torch.arange(steps + 1, dtype=torch.float64), steps - half
    slope = threshold / half
    # the parabola through (half, threshold) with this slope there, and through (steps, 1)
    ahead = (index - half).clamp(min=0)
    bend = (1 - threshold - slope * rest) / rest**2
    return 1 - slope * index - bend * ahead.square()

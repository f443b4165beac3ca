"""Which times between data (0) and noise (1) a rectified flow visits: even, linear-quadratic or published; shifted."""

# annotations stay evaluated here: the knobs' types are read from the subclass, whose module needn't import them
import dataclasses
from typing import Literal, get_args

import torch
from torch import Tensor

from videogen.schedulers import Size
from videogen.schedulers._levels import Levels, spaced
from videogen.schedulers._shared import check_choice
from videogen.schedulers._shift import Shift

FlowCurve = Literal["flow_match", "flow_unipc", "flow_dpm"]
Curve = Literal["even", "linear_quadratic", "flow_match", "flow_unipc", "flow_dpm"]
#: of the published grids
TRAIN_STEPS = 1000
# how far from noise without data UniPC's published grid starts
SHY_OF_NOISE = 1e-6
PUBLISHED_RHO = 7.0


@dataclasses.dataclass(kw_only=True, eq=False)
class FlowGrid(Shift):
    """Times from 1 to 0, moved towards noise by the knobs of `Shift`.

    Args:
        curve: even, or linear_quadratic: the first half of the steps removes `threshold` of the noise in even steps,
            the others grow with the square (Movie Gen, arXiv 2410.13720, section 3.4.2; Mochi). flow_match, flow_unipc
            and flow_dpm: the grids that published schedulers walk where "flow shift 3" is asked for, see `published`.
        threshold: see curve.
        shift_terminal: the time of the last prediction; the times are stretched to it (LTX-Video). 0 leaves them.
        levels: which times stand in place of those between the first and the last prediction: grid, those that are
            there, or karras, exponential or beta, as spaced by `spaced`, which then are times and no ratios.

    Raises:
        ValueError: a knob out of range.
    """

    curve: Curve = "even"
    threshold: float = 0.025
    shift_terminal: float = 0.0
    levels: Literal["grid", "karras", "exponential", "beta"] = "grid"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("curve", self.curve, get_args(Curve))
        check_choice("levels", self.levels, ["grid", *get_args(Levels)])
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} lies outside (0, 1): a small part of the noise, like 0.025")
        if not 0 <= self.shift_terminal < 1:
            raise ValueError(f"shift_terminal={self.shift_terminal} lies outside [0, 1): 0 leaves the times")

    def flow_times(self, steps: int, size: Size | None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64, from 1 to 0.

        Raises:
            ValueError: less than one step, or no size where the shift depends on it.
        """
        shift = self.shift_of(size)
        match self.curve:
            case "linear_quadratic" if steps > 1:
                times = shifted(linear_quadratic(steps, self.threshold), shift)
            case "even" | "linear_quadratic":
                times = shifted(even(steps), shift)
            case _:
                times = published(self.curve, steps, shift, static=self.shift_by == "fixed")
        if self.shift_terminal and steps > 1:
            stretch = (1 - self.shift_terminal) / (1 - times[-2])
            times = torch.cat([1 - stretch * (1 - times[:-1]), times[-1:]])
        if self.levels != "grid":
            first, last = float(times[0]), float(times[-2])
            times = torch.cat([spaced(self.levels, first, last, steps, PUBLISHED_RHO), times[-1:]])
        return times


def published(curve: FlowCurve, steps: int, shift: float, *, static: bool) -> Tensor:
    """The grids of three published schedulers, which differ for the same shift, (steps + 1,) float64 from 1 or so to 0.

    Args:
        curve: flow_match: the last prediction is at the first of 1000 training steps, and `shift` is applied to it
            twice (diffusers' FlowMatchEuler and FlowMatchHeun). flow_unipc: one step more than asked for, from 1 to the
            first training step, the last of which is left out; the first time is a millionth below 1. flow_dpm: from
            the 999th of 1000 training steps to 0.
        static: whether the shift is a fixed one; flow_match applies one that depends on the size once.

    Raises:
        ValueError: less than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: at least 1")
    first_step = 1 / TRAIN_STEPS
    match curve:
        case "flow_match":
            last = shifted(torch.tensor(first_step, dtype=torch.float64), shift if static else 1.0)
            times = shifted(torch.linspace(1, float(last), steps, dtype=torch.float64), shift)
        case "flow_unipc":
            times = shifted(torch.linspace(1, first_step, steps + 1, dtype=torch.float64)[:-1], shift)
            times = times.clamp(max=1 - SHY_OF_NOISE)
        case "flow_dpm":
            times = shifted(torch.linspace(1 - first_step, 0, steps + 1, dtype=torch.float64)[:-1], shift)
    return torch.cat([times, times.new_zeros(1)])


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

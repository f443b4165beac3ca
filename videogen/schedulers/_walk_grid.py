"""Which times a solver visits on any noise schedule: even in time, or by noise levels, or as published ones do."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import dataclasses
from typing import Literal, get_args

import torch
from torch import Tensor

from videogen.schedulers import NoiseSchedule, Size
from videogen.schedulers._flow_grid import published
from videogen.schedulers._levels import Levels, spaced
from videogen.schedulers._shared import check_choice
from videogen.schedulers._shift import Shift

Spacing = Literal[
    "trailing",
    "linspace",
    "leading",
    "fractional",
    "karras",
    "exponential",
    "beta",
    "flow_match",
    "flow_unipc",
    "flow_dpm",
]
Between = Literal["limits", "trailing", "leading"]


@dataclasses.dataclass(kw_only=True, eq=False)
class WalkGrid(Shift):
    """The times of a walk on a noise schedule, from noise to data.

    Args:
        spacing: which times are visited. trailing, linspace and leading are even in time (Lin et al., arXiv 2305.08891,
            table 2), the latter two only of discrete steps; fractional is linspace without rounding to whole steps, and
            between two of them sigma / alpha is linear (diffusers' Euler and Heun). karras, exponential and beta space
            sigma / alpha, see `spaced`. flow_match, flow_unipc and flow_dpm are published grids of a flow's times, see
            `published`.
        steps_offset: added to the times of leading.
        one_more: whether linspace and leading are those of one step more, the last of which is left out, as in
            published multistep solvers.
        to_data: whether the last step ends on clean data; otherwise it ends at the lowest level that the network has
            seen, whose noise stays.
        between: where karras, exponential and beta begin and end: at the limits of the noise schedule, or at the first
            and the last time of that even spacing, as in diffusers' Euler and Heun.
        rho: of karras.
        sigma_min: lowest sigma / alpha of karras, exponential and beta, if the schedule goes below it.
        sigma_max: highest, if the schedule goes beyond it.

    Raises:
        ValueError: a knob out of range, or one that the others leave without effect.
    """

    spacing: Spacing = "trailing"
    steps_offset: int = 0
    one_more: bool = False
    to_data: bool = True
    between: Between = "limits"
    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("spacing", self.spacing, get_args(Spacing))
        check_choice("between", self.between, get_args(Between))
        leading = self.spacing == "leading" or (self.by_levels and self.between == "leading")
        if self.steps_offset < 0 or (self.steps_offset and not leading):
            raise ValueError(
                f"steps_offset={self.steps_offset} with spacing={self.spacing!r}: "
                "an offset is at least 0 and belongs to leading; set it to 0"
            )
        if self.one_more and self.spacing not in ("linspace", "leading"):
            raise ValueError(f"one_more with spacing={self.spacing!r} belongs to linspace and leading: set it False")
        if self.between != "limits" and not self.by_levels:
            raise ValueError(
                f"between={self.between!r} with spacing={self.spacing!r} belongs to karras, exponential and beta: "
                "set it to limits"
            )
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: they must ascend from above 0")
        if not self.rho > 0:
            raise ValueError(f"rho={self.rho} must be positive: usually 7")

    @property
    def by_levels(self) -> bool:
        """Whether the noise levels, and not the times, are what the spacing is about."""
        return self.spacing in get_args(Levels)

    def times_on(self, noise: NoiseSchedule, steps: int, size: Size | None) -> Tensor:
        """The descending times of `steps` steps on a noise schedule, (steps + 1,) float64.

        Raises:
            ValueError: a number of steps or a spacing that the noise schedule doesn't have, or no size where the shift
                depends on it.
        """
        if steps < 1:
            raise ValueError(f"steps={steps}: at least 1")
        shift = self.shift_of(size)
        match self.spacing:
            case "flow_match" | "flow_unipc" | "flow_dpm" as curve:
                flow = published(curve, steps, shift, static=self.shift_by == "fixed")
                times = noise.time_of(1 - flow, flow)
            case "karras" | "exponential" | "beta" as kind:
                ratio = shift * self._levels(noise, steps, kind)
                times = _time_of(noise, torch.cat([ratio, ratio.new_zeros(1)]))
            case _:
                times = self._even(noise, steps)
                times = times if shift == 1 else _time_of(noise, shift * _ratio(noise, times))
        if self.to_data:
            return times
        # nor does a published grid go below that level on its way
        lowest = _time_of(noise, times.new_full((1,), noise.limits[0]))
        return torch.cat([torch.maximum(times[:-1], lowest), lowest])

    def _even(self, noise: NoiseSchedule, steps: int) -> Tensor:
        """Times evenly spaced, and clean data, (steps + 1,)."""
        if self.spacing == "fractional":
            return self._fractional(noise, steps)
        if not self.one_more:
            return noise.grid(steps, self.spacing, self.steps_offset)
        times = noise.grid(steps + 1, self.spacing, self.steps_offset)
        return torch.cat([times[:-2], times[-1:]])

    @staticmethod
    def _fractional(noise: NoiseSchedule, steps: int) -> Tensor:
        first, last, data = noise.grid(2, "linspace").tolist()
        times = torch.linspace(first, last, steps, dtype=torch.float64)
        below, above = times.floor(), times.ceil()
        # where the time is whole, both ends are one, and may be infinite
        low, high = _ratio(noise, below), _ratio(noise, above)
        ratio = torch.where(below == above, low, low + (times - below) * (high - low))
        return torch.cat([_time_of(noise, ratio), times.new_full((1,), data)])

    def _levels(self, noise: NoiseSchedule, steps: int, kind: Levels) -> Tensor:
        """Descending sigma / alpha above data, (steps,)."""
        low, high = noise.limits
        if self.between != "limits":
            high, low = _ratio(noise, noise.grid(steps, self.between, self.steps_offset)[[0, -2]]).tolist()
        low, high = max(low, self.sigma_min), min(high, self.sigma_max)
        return spaced(kind, high, low, steps, self.rho)


def _ratio(noise: NoiseSchedule, times: Tensor) -> Tensor:
    """sigma / alpha, infinite where there is no signal."""
    alpha, sigma = noise.alpha_sigma(times)
    return sigma / alpha


def _time_of(noise: NoiseSchedule, ratio: Tensor) -> Tensor:
    """The time of a ratio sigma / alpha, which may be infinite."""
    endless = ratio.isinf()
    return noise.time_of((~endless).to(ratio), ratio.where(~endless, 1.0))

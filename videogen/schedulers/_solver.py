"""What solvers share: a walk over noise levels of any schedule, by a network's x0 and noise at each."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import abc
import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from videogen.schedulers import NoiseSchedule, Size
from videogen.schedulers._clipping import Clipping
from videogen.schedulers._discrete_vp import DiscreteVP
from videogen.schedulers._shared import shaped
from videogen.schedulers._walk_grid import WalkGrid

if TYPE_CHECKING:
    from videogen.schedulers import Draw, Network

# (x_t in float32 or better, time) -> x0 and noise
Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# log(alpha / sigma) is held within these bounds where steps are compared: nothing between them tells noise from pure
FARTHEST = 14.0


class Step(NamedTuple):
    """One step of a walk: its times, and the levels there, float64, with the axes of the sample; see `scale`."""

    time: Tensor
    next_time: Tensor
    alpha: Tensor
    sigma: Tensor
    next_alpha: Tensor
    next_sigma: Tensor

    @property
    def kept(self) -> Tensor:
        """sigma' / sigma, the part of the noise that stays; 1 where there is none."""
        return (self.next_sigma / self.sigma).where(self.sigma > 0, 1.0)

    @property
    def decay(self) -> Tensor:
        """exp(-h) with h = log(alpha' / sigma') - log(alpha / sigma): from 1, no step, to 0, from noise or to data."""
        return self.kept * self.alpha / self.next_alpha

    @property
    def moves(self) -> Tensor:
        """Whether the noise level changes: a frame that is known stays where it is."""
        return self.decay < 1

    @property
    def width(self) -> Tensor:
        """h, finite at both ends; 0 where nothing moves."""
        return _log_ratio(self.next_alpha, self.next_sigma) - _log_ratio(self.alpha, self.sigma)

    @property
    def slope_weight(self) -> Tensor:
        """What a change of the noise along the step counts in x: the step in sigma / alpha, in the scale of x.

        0 from noise without data, where the step in sigma / alpha is endless: what starts there is Euler's.
        """
        inside = self.alpha > 0
        return (self.next_sigma - self.sigma * self.next_alpha / self.alpha.where(inside, 1.0)).where(inside, 0.0)

    def euler(self, x0: Tensor, noise: Tensor) -> Tensor:
        """x at the next time if x0 and noise stay what they are."""
        return scale(self.next_alpha, x0) + scale(self.next_sigma, noise)


@dataclasses.dataclass(eq=False)
class Solver(Clipping, WalkGrid, abc.ABC):
    """A method for the differential equation dx = x0 * d alpha + noise * d sigma that knows alpha and sigma alone.

    Computed in float32 or better, whatever the sample's dtype.

    Args:
        noise: what to walk on: the noise schedule of the network; alone, DDPM's with a prediction of epsilon.

    Which times are visited is told by the knobs of `WalkGrid`, how they are moved with the size by those of `Shift`,
    and where x0 is bounded by those of `Clipping`.

    Raises:
        ValueError: a knob out of range.
    """

    noise: NoiseSchedule = dataclasses.field(default_factory=DiscreteVP)

    def __post_init__(self) -> None:
        Clipping.__post_init__(self)
        WalkGrid.__post_init__(self)

    @property
    def stochastic(self) -> bool:
        """Whether the walk draws fresh noise."""
        return False

    def timesteps(self, steps: int, size: Size | None = None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64; the last is clean data, unless not `to_data`.

        Raises:
            ValueError: a number of steps or a spacing that the noise schedule doesn't have, or no size where the shift
                depends on it.
        """
        return self.times_on(self.noise, steps, size)

    def walk(self, network: "Network", sample: Tensor, times: Tensor, draw: "Draw") -> Iterator[Tensor]:
        """From x at times[0] to x at times[-1], x after each step; see `Scheduler.walk`."""
        exact = sample.to(torch.promote_types(sample.dtype, torch.float32))

        def denoise(x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
            prediction = network(x.to(sample.dtype), time).to(x.dtype)
            x0, noise = self.noise.split(prediction, x, time)
            if not self.clip_x0:
                return x0, noise
            x0 = self.clipped(x0)
            return x0, self.noise.noise_of(x0, x, time)

        for x in self.solve(denoise, exact, self._steps(exact, times), draw):
            yield x.to(sample.dtype)

    @abc.abstractmethod
    def solve(self, denoise: Denoise, x: Tensor, steps: list[Step], draw: "Draw") -> Iterator[Tensor]:
        """x after each step, (B, C, ...) in float32 or better."""

    def _steps(self, sample: Tensor, times: Tensor) -> list[Step]:
        levels = [tuple(shaped(level, sample) for level in self.noise.alpha_sigma(time)) for time in times]
        walk = zip(pairwise(times), pairwise(levels), strict=True)
        return [Step(*ends, *here, *there) for ends, (here, there) in walk]


def scale(factor: Tensor, x: Tensor) -> Tensor:
    """factor * x on the device and in the precision of x: factors are differences of exponentials, found in float64."""
    return factor.to(x) * x


def _log_ratio(alpha: Tensor, sigma: Tensor) -> Tensor:
    return (alpha.log() - sigma.log()).clamp(-FARTHEST, FARTHEST)

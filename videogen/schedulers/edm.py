"""EDM: noise levels instead of steps of a chain, and Heun's method with churn between them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, Prediction, Size
from videogen.schedulers._levels import Levels, spaced
from videogen.schedulers._shared import NoiseSchedule, check_choice, check_levels, shaped, within
from videogen.schedulers._solver import Step, scale

if TYPE_CHECKING:
    from videogen.schedulers import Draw, Network

Method = Literal["euler", "heun"]
# the time that stands for clean data, whose logarithm has no end: what lies between is lost in float64
DATA_TIME = -10.0
MOST_CHURN = math.sqrt(2) - 1


@SCHEDULERS.register("edm")
@dataclasses.dataclass(kw_only=True, eq=False)
class EDM(NoiseSchedule):
    """Elucidated diffusion (Karras et al., arXiv 2206.00364): x0 + sigma * noise, scaled to unit variance.

    Time is log(sigma) / 4, what the paper's networks are told (table 1, c_noise), and -10 is clean data. Latents have
    unit variance, so that x_t, the paper's c_in * x, is alpha * x0 + sqrt(1 - alpha^2) * noise, and the paper's network
    F predicts v_neg (eq. 7).

    Args:
        prediction: what the network predicts: x0, epsilon, v, v_neg, flow or flow_neg.
        sigma_min: lowest noise level above data.
        sigma_max: highest.
        sigma_data: the standard deviation of data that the three sigmas and sampling_mean are meant for.
        spacing: of the noise levels of a walk: karras (eq. 5), exponential or beta, see `spaced`.
        rho: of karras.
        to_data: whether the last step ends on clean data, or goes nowhere from sigma_min.
        method: euler, or heun, which takes two predictions a step but the last (algorithm 1).
        churn: how much fresh noise a walk of any number of steps adds in all (S_churn of algorithm 2).
        churn_min: noise level below which no noise is added.
        churn_max: noise level above which none is.
        churn_noise: standard deviation of that noise (S_noise), a little above 1 where networks remove too much.
        sampling_mean: of the normal variable log(sigma) of training (table 1, P_mean).
        sampling_std: of that variable.

    Raises:
        ValueError: a knob out of range.
    """

    prediction: Prediction = "v_neg"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 1.0
    spacing: Levels = "karras"
    rho: float = 7.0
    to_data: bool = True
    method: Method = "heun"
    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = 1e6
    churn_noise: float = 1.0
    sampling_mean: float = -1.2
    sampling_std: float = 1.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("method", self.method, get_args(Method))
        check_choice("spacing", self.spacing, get_args(Levels))
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: they must ascend from above 0")
        for name in ("sigma_data", "rho", "churn_noise", "sampling_std"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if self.churn < 0:
            raise ValueError(f"churn={self.churn}: at least 0; 0 adds no noise")

    @property
    def noise(self) -> EDM:
        """Itself: it brings its own noise schedule."""
        return self

    @property
    def stochastic(self) -> bool:
        """Whether a step draws: with any churn."""
        return self.churn > 0

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest noise level, of data of unit variance."""
        return self.sigma_min / self.sigma_data, self.sigma_max / self.sigma_data

    def timesteps(self, steps: int, size: Size | None = None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64, from sigma_max over sigma_min to data.

        Raises:
            ValueError: less than one step.
        """
        if steps < 1:
            raise ValueError(f"steps={steps}: at least 1")
        times = spaced(self.spacing, self.sigma_max, self.sigma_min, steps, self.rho).log() / 4
        return self._to_data(times) if self.to_data else torch.cat([times, times[-1:]])

    def grid(self, steps: int, spacing: str, offset: int = 0) -> Tensor:
        """The descending times of `steps` steps, even in time, so in the logarithm of sigma, (steps + 1,) float64.

        Raises:
            ValueError: less than one step, or a spacing of discrete steps.
        """
        if spacing != "trailing":
            raise ValueError(f"spacing={spacing!r} belongs to schedules of discrete steps: edm has trailing alone")
        if steps < 1:
            raise ValueError(f"steps={steps}: at least 1")
        ends = math.log(self.sigma_max) / 4, math.log(self.sigma_min) / 4
        return self._to_data(torch.linspace(*ends, steps, dtype=torch.float64))

    def alpha_sigma(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """1 / sqrt(1 + r^2) and r / sqrt(1 + r^2) with r = sigma / sigma_data, float64, of the timestep's shape.

        Raises:
            ValueError: a time beyond what churn adds to sigma_max, or below that of data.
        """
        # one that churn has raised, with room for rounding
        top = math.log(self.sigma_max * 1.5) / 4
        time = within(timestep, DATA_TIME, top, "a time is log(sigma) / 4, and -10 is data")
        ratio = ((4 * time).exp() / self.sigma_data).where(time > DATA_TIME, 0.0)
        alpha = (1 + ratio.square()).rsqrt()
        return alpha, ratio * alpha

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The time of a ratio alpha / sigma, float64, that of sigma_max for a lower one; ValueError for no level."""
        alpha, sigma = check_levels(alpha, sigma)
        time = (sigma.log() - alpha.log() + math.log(self.sigma_data)) / 4
        return time.clamp(DATA_TIME, math.log(self.sigma_max) / 4)

    def sample_times(self, batch: int, generator: Generator | None = None) -> Tensor:
        """Training times (batch,), float64, on the generator's device: log(sigma) is normal, within the limits."""
        device = generator.device if generator is not None else None
        normal = torch.randn(batch, generator=generator, device=device, dtype=torch.float64)
        logarithm = self.sampling_mean + self.sampling_std * normal
        return logarithm.clamp(math.log(self.sigma_min), math.log(self.sigma_max)) / 4

    def loss_weight(self, timestep: Tensor) -> Tensor:
        """Weight of the squared error at each time, float64, of its shape: what makes it the error of v (table 1)."""
        alpha, sigma = self.alpha_sigma(timestep)
        match self.prediction:
            case "x0":
                return sigma.square().reciprocal()
            case "epsilon":
                return alpha.square().reciprocal()
            case "flow" | "flow_neg":
                return (alpha + sigma).square().reciprocal()
            case "v" | "v_neg":
                return torch.ones_like(alpha)

    def walk(self, network: Network, sample: Tensor, times: Tensor, draw: Draw) -> Iterator[Tensor]:
        """Algorithm 2 of the paper, or 1 without churn: x after each step; see `Scheduler.walk`."""
        x = sample.to(torch.promote_types(sample.dtype, torch.float32))

        def denoise(x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
            return self.split(network(x.to(sample.dtype), time).to(x.dtype), x, time)

        for time, next_time in pairwise(times):
            raised = self._raised(time, len(times) - 1)
            levels = (*self.alpha_sigma(raised), *self.alpha_sigma(next_time))
            step = Step(raised, next_time, *(shaped(level, x) for level in levels))
            if self.stochastic:
                x = self._churned(x, time, step, draw)
            x0, noise = denoise(x, raised)
            x = step.euler(x0, noise)
            half = step.slope_weight.where(step.next_sigma > 0, 0.0) / 2
            if self.method == "heun" and bool(half.any()):
                _, next_noise = denoise(x, next_time)
                x = x + scale(half, next_noise - noise)
            yield x.to(sample.dtype)

    def _raised(self, time: Tensor, steps: int) -> Tensor:
        """The time of sigma * (1 + gamma)."""
        sigma = (4 * time).exp()
        churned = (sigma >= self.churn_min) & (sigma <= self.churn_max) & (time > DATA_TIME)
        return time + math.log1p(min(self.churn / steps, MOST_CHURN)) / 4 * churned

    def _churned(self, x: Tensor, time: Tensor, step: Step, draw: Draw) -> Tensor:
        """x at `time` with noise added up to the level of the step's start."""
        alpha, sigma = (shaped(level, x) for level in self.alpha_sigma(time))
        added = ((step.sigma / step.alpha).square() - (sigma / alpha).square()).clamp(min=0).sqrt()
        return scale(step.alpha / alpha, x) + scale(self.churn_noise * added * step.alpha, draw())

    @staticmethod
    def _to_data(times: Tensor) -> Tensor:
        return torch.cat([times, times.new_full((1,), DATA_TIME)])

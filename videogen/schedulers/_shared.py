"""What every noise schedule shares: the algebra between clean latents, noise and prediction at a given noise level."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import abc
import dataclasses
import typing
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from videogen.registry import nearest
from videogen.schedulers import Prediction

if TYPE_CHECKING:
    from videogen.schedulers import Draw, Network


@dataclasses.dataclass(kw_only=True, eq=False)
class NoiseSchedule(abc.ABC):
    """Noisy latents x_t = alpha_t * x0 + sigma_t * noise, and what a network predicts of them.

    Times are computed in float64. Latents are computed in float32 or better and given back in their own dtype.

    Args:
        prediction: what the network predicts: x0, epsilon, v, v_neg, flow or flow_neg.
    """

    prediction: Prediction = "epsilon"

    def __post_init__(self) -> None:
        check_choice("prediction", self.prediction, get_args(Prediction))

    @abc.abstractmethod
    def alpha_sigma(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at each time, float64, of the timestep's shape."""

    @abc.abstractmethod
    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The time of a ratio alpha / sigma, float64, of their shape."""

    @abc.abstractmethod
    def grid(self, steps: int, spacing: str, offset: int = 0) -> Tensor:
        """The descending times of `steps` steps, evenly spaced in time, (steps + 1,) float64."""

    @property
    @abc.abstractmethod
    def limits(self) -> tuple[float, float]:
        """The lowest and highest ratio sigma / alpha that a network of this schedule has seen."""

    @abc.abstractmethod
    def sample_times(self, batch: int, generator: Generator | None = None) -> Tensor:
        """Training times (batch,), float64, on the generator's device."""

    def add_noise(
        self, x0: Float[Tensor, "b c *rest"], noise: Float[Tensor, "b c *rest"], timestep: Tensor
    ) -> Float[Tensor, "b c *rest"]:
        """x_t = alpha_t * x0 + sigma_t * noise, (B, C, ...) -> (B, C, ...).

        Args:
            timestep: one for all (), per sample (B,) or, for latents (B, C, T, H, W), per frame (B, T).

        Raises:
            ValueError: a timestep of another shape, or outside the schedule.
        """
        alpha, sigma = self._at(timestep, x0)
        return (alpha * x0 + sigma * noise).to(x0.dtype)

    def target(
        self, x0: Float[Tensor, "b c *rest"], noise: Float[Tensor, "b c *rest"], timestep: Tensor
    ) -> Float[Tensor, "b c *rest"]:
        """What the network should predict, (B, C, ...) -> (B, C, ...)."""
        return self.join(x0, noise, timestep)

    def loss_weight(self, timestep: Tensor) -> Tensor:
        """Weight 1 for the squared error at each time, float64, of the timestep's shape."""
        return torch.ones_like(timestep, dtype=torch.float64)

    def join(
        self, x0: Float[Tensor, "b c *rest"], noise: Float[Tensor, "b c *rest"], timestep: Tensor
    ) -> Float[Tensor, "b c *rest"]:
        """(x0, noise) -> this schedule's prediction, (B, C, ...) -> (B, C, ...); the contract has the formulas."""
        match self.prediction:
            case "x0":
                return x0
            case "epsilon":
                return noise.to(x0.dtype)
            case "flow":
                return (noise - x0).to(x0.dtype)
            case "flow_neg":
                return (x0 - noise).to(x0.dtype)
            case "v" | "v_neg":
                alpha, sigma = self._at(timestep, x0)
                v = alpha * noise - sigma * x0
                return (v if self.prediction == "v" else -v).to(x0.dtype)

    def split(
        self, prediction: Float[Tensor, "b c *rest"], sample: Float[Tensor, "b c *rest"], timestep: Tensor
    ) -> tuple[Float[Tensor, "b c *rest"], Float[Tensor, "b c *rest"]]:
        """A prediction at x_t = sample -> (x0, noise), of the sample's shape and dtype; the inverse of `join`.

        Where sigma is 0 the sample holds no noise: a prediction of x0 then gives noise 0.

        Raises:
            ValueError: a prediction of epsilon where alpha is 0: nothing there tells x0.
        """
        x0, noise = self._solve(prediction, sample, timestep)
        return x0.to(sample.dtype), noise.to(sample.dtype)

    def noise_of(
        self, x0: Float[Tensor, "b c *rest"], sample: Float[Tensor, "b c *rest"], timestep: Tensor
    ) -> Float[Tensor, "b c *rest"]:
        """The noise in x_t = sample if this is its x0, of the sample's shape and dtype; 0 where sigma is 0."""
        return _noise_of(x0, sample, *self._at(timestep, sample)).to(sample.dtype)

    def _solve(self, prediction: Tensor, sample: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """x0 and noise from x_t = alpha x0 + sigma noise and the prediction's definition, in the precision of `_at`."""
        alpha, sigma = self._at(timestep, sample)
        match self.prediction:
            case "x0":
                return prediction, _noise_of(prediction, sample, alpha, sigma)
            case "epsilon":
                if bool((alpha == 0).any()):
                    raise ValueError(
                        "a prediction of 'epsilon' at alpha=0 doesn't tell x0 (0 * x0 + noise = sample): "
                        "predict v, flow or x0, or start at a time below the last"
                    )
                return (sample - sigma * prediction) / alpha, prediction
            case "v" | "v_neg":
                v, norm = (prediction if self.prediction == "v" else -prediction), alpha.square() + sigma.square()
                return (alpha * sample - sigma * v) / norm, (sigma * sample + alpha * v) / norm
            case "flow" | "flow_neg":
                flow = prediction if self.prediction == "flow" else -prediction
                return (sample - sigma * flow) / (alpha + sigma), (sample + alpha * flow) / (alpha + sigma)

    def _at(self, timestep: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at `timestep`, ready to multiply `sample`."""
        alpha, sigma = self.alpha_sigma(timestep)
        return like(alpha, sample), like(sigma, sample)


def _noise_of(x0: Tensor, sample: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    # over infinity where sigma is 0, so that the noise is 0 and not 0 / 0
    return (sample - alpha * x0) / sigma.masked_fill(sigma == 0, torch.inf)


class Stepper(abc.ABC):
    """A noise schedule that walks on itself, one prediction a step."""

    @property
    def noise(self) -> typing.Self:
        """Itself: it brings the noise schedule that it was published with."""
        return self

    @property
    def stochastic(self) -> bool:
        """Whether `step` needs fresh noise."""
        return False

    @abc.abstractmethod
    def step(
        self, prediction: Tensor, timestep: Tensor, next_timestep: Tensor, sample: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """One step from x at `timestep` to x at `next_timestep`, (B, C, ...) -> (B, C, ...).

        Args:
            noise: fresh standard normal noise of the sample's shape, for samplers whose `stochastic` is True.
        """

    def walk(self, network: "Network", sample: Tensor, times: Tensor, draw: "Draw") -> Iterator[Tensor]:
        """From x at times[0] to x at times[-1], x after each step; see `Scheduler.walk`."""
        for time, next_time in pairwise(times):
            prediction = network(sample, time)
            sample = self.step(prediction, time, next_time, sample, draw() if self.stochastic else None)
            yield sample


def like(values: Tensor, sample: Tensor) -> Tensor:
    """Values (), (B,) or (B, T) shaped to multiply a sample (B, C, T, ...), on its device, in float32 or better.

    Raises:
        ValueError: the values' shape is none of these.
    """
    return shaped(values, sample).to(torch.promote_types(sample.dtype, torch.float32)).to(sample.device)


def shaped(values: Tensor, sample: Tensor) -> Tensor:
    """Values (), (B,) or (B, T) with the axes of a sample (B, C, T, ...); their device and dtype stay.

    Raises:
        ValueError: the values' shape is none of these.
    """
    shape = tuple(sample.shape)
    if tuple(values.shape) not in ((), shape[:1], shape[:1] + shape[2:3]):
        raise ValueError(
            f"a timestep of shape {tuple(values.shape)} doesn't fit latents of shape {shape}: "
            f"give a scalar, {shape[:1]} or, per frame, {shape[:1] + shape[2:3]}"
        )
    # all axes, also for a scalar: a tensor without axes would take part in the sample's low precision
    axes = [1] * len(shape)
    for axis, size in zip((0, 2), values.shape, strict=False):
        axes[axis] = size
    return values.reshape(axes)


def within(timestep: Tensor, low: float, high: float, meaning: str) -> Tensor:
    """The timestep in float64; ValueError, saying what the ends mean, where it lies outside [low, high]."""
    times = timestep.double()
    inside = (times >= low) & (times <= high)
    if not bool(inside.all()):
        raise ValueError(f"time {times[~inside][0].item():g} lies outside [{low:g}, {high:g}]: {meaning}")
    return times


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """ValueError with the nearest choice where a knob's value is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown: {nearest(str(value), choices)}")


def check_levels(alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma in float64; ValueError where they are negative or both 0, which is no noise level."""
    alpha, sigma = alpha.double(), sigma.double()
    bad = ~((alpha >= 0) & (sigma >= 0) & (alpha + sigma > 0))
    if bool(bad.any()):
        raise ValueError(
            f"alpha={alpha[bad][0].item():g}, sigma={sigma[bad][0].item():g} is no noise level: "
            "both are at least 0, and one is positive"
        )
    return alpha, sigma

"""Rectified flow: straight lines from data to noise, walked back by Euler or Heun steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, Prediction, Size
from videogen.schedulers._flow_grid import FlowGrid, even, shifted
from videogen.schedulers._shared import NoiseSchedule, Stepper, check_choice, check_levels, like, within
from videogen.schedulers._training import TimeDraw, min_snr_weight

if TYPE_CHECKING:
    from videogen.schedulers import Draw, Network

Method = Literal["euler", "heun"]


@SCHEDULERS.register("rectified_flow")
@dataclasses.dataclass(kw_only=True, eq=False)
class RectifiedFlow(Stepper, FlowGrid, TimeDraw, NoiseSchedule):
    """Rectified flow (Liu et al., arXiv 2209.03003): x_s = (1 - s) * x0 + s * noise with time s in [0, 1].

    Which times are visited is told by the knobs of `FlowGrid` and `Shift`, how training times are drawn by those of
    `TimeDraw`.

    Args:
        prediction: what the network predicts: x0, epsilon, v, v_neg, flow or flow_neg.
        method: euler, or heun, which takes two predictions a step (but the last) and is of second order.
        shift_training: whether training times are shifted too, by `shift` alone.
        max_loss_weight: the highest weight of a squared error; see `loss_weight`.

    Raises:
        ValueError: a knob out of range.
    """

    prediction: Prediction = "flow"
    method: Method = "euler"
    shift_training: bool = False
    max_loss_weight: float = 5.0

    def __post_init__(self) -> None:
        for base in (NoiseSchedule, TimeDraw, FlowGrid):
            base.__post_init__(self)
        check_choice("method", self.method, get_args(Method))
        if not self.max_loss_weight > 0:
            raise ValueError(f"max_loss_weight={self.max_loss_weight} must be positive: 1 is neutral")

    @property
    def limits(self) -> tuple[float, float]:
        """From no noise to no data."""
        return 0.0, torch.inf

    def grid(self, steps: int, spacing: str, offset: int = 0) -> Tensor:
        """The descending times of `steps` even steps from 1 to 0, (steps + 1,) float64, not shifted.

        Raises:
            ValueError: less than one step, or a spacing of discrete steps.
        """
        if spacing != "trailing":
            raise ValueError(f"spacing={spacing!r} belongs to schedules of discrete steps: a flow has trailing alone")
        return even(steps)

    def timesteps(self, steps: int, size: Size | None = None) -> Tensor:
        """The descending times from 1 (noise) to 0 (data), (steps + 1,) float64.

        Raises:
            ValueError: less than one step, or no size where the shift depends on it.
        """
        return self.flow_times(steps, size)

    def alpha_sigma(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(1 - s, s), float64, of the timestep's shape; ValueError outside [0, 1]."""
        sigma = within(timestep, 0, 1, "0 is data, 1 is noise; divide a time on a scale of 1000 by 1000")
        return 1 - sigma, sigma

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """s with (1 - s) / s = alpha / sigma, float64; ValueError for what is no noise level."""
        alpha, sigma = check_levels(alpha, sigma)
        return sigma / (alpha + sigma)

    def sample_times(self, batch: int, generator: Generator | None = None) -> Tensor:
        """Training times (batch,) in [0, 1], float64, on the generator's device."""
        times = self.draw_places(batch, generator)
        return shifted(times, self.shift) if self.shift_training else times

    def loss_weight(self, timestep: Tensor) -> Tensor:
        """Weight of the squared error at each time, float64, of the timestep's shape.

        For a prediction of x0 it is the weight that turns its squared error into that of flow, capped: at a given x_s
        flow = (x_s - x0) / s, so 1 / s^2, at most `max_loss_weight`. Any other prediction has weight 1. With
        `min_snr_gamma` all have `min_snr_weight` instead.
        """
        if self.min_snr_gamma:
            return min_snr_weight(self.prediction, *self.alpha_sigma(timestep), self.min_snr_gamma)
        if self.prediction != "x0":
            return super().loss_weight(timestep)
        _, sigma = self.alpha_sigma(timestep)
        return sigma.square().reciprocal().clamp(max=self.max_loss_weight)

    def step(
        self,
        prediction: Float[Tensor, "b c *rest"],
        timestep: Tensor,
        next_timestep: Tensor,
        sample: Float[Tensor, "b c *rest"],
        noise: Tensor | None = None,
    ) -> Float[Tensor, "b c *rest"]:
        """One Euler step of dx / ds = flow, (B, C, ...) -> (B, C, ...), towards data or towards noise.

        Written as (1 - s') * x0 + s' * noise, which is x + (s' - s) * flow and takes every prediction alike.
        """
        x0, predicted_noise = self._solve(prediction, sample, timestep)
        alpha, sigma = self._at(next_timestep, sample)
        return (alpha * x0 + sigma * predicted_noise).to(sample.dtype)

    def walk(self, network: Network, sample: Tensor, times: Tensor, draw: Draw) -> Iterator[Tensor]:
        """From x at times[0] to x at times[-1], x after each step; see `Scheduler.walk`."""
        return (
            self._heun(network, sample, times) if self.method == "heun" else super().walk(network, sample, times, draw)
        )

    def _heun(self, network: Network, sample: Tensor, times: Tensor) -> Iterator[Tensor]:
        """The mean of the flows at both ends of each step; the last ends on data, where no network has a flow."""
        for time, next_time in pairwise(times):
            prediction = network(sample, time)
            ahead = self.step(prediction, time, next_time, sample)
            if bool((next_time > 0).any()):
                x0, noise = self._solve(prediction, sample, time)
                next_x0, next_noise = self._solve(network(ahead, next_time), ahead, next_time)
                change = like((next_time - time).where(next_time > 0, 0.0), sample)
                ahead = (ahead + change * ((next_noise - next_x0) - (noise - x0)) / 2).to(sample.dtype)
            sample = ahead
            yield sample

"""Rectified flow: straight lines from data to noise, walked back by Euler steps."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, Prediction
from videogen.schedulers._shared import NoiseSchedule, check_choice, check_levels, within

TimeSampling = Literal["uniform", "logit_normal"]


@SCHEDULERS.register("rectified_flow")
@dataclasses.dataclass(kw_only=True, eq=False)
class RectifiedFlow(NoiseSchedule):
    """Rectified flow (Liu et al., arXiv 2209.03003): x_s = (1 - s) * x0 + s * noise with time s in [0, 1], Euler steps.

    Args:
        prediction: what the network predicts: x0, epsilon, v, flow or flow_neg.
        shift: moves times towards noise, s -> shift * s / (1 + (shift - 1) * s) (Esser et al., arXiv 2403.03206,
            eq. 23); 1 leaves them, large videos want more.
        shift_training: whether training times are shifted too.
        sampling: how training times are drawn: uniform, or as the sigmoid of a normal variable (arXiv 2403.03206,
            eq. 19).
        sampling_mean: of that normal variable; positive means noisier.
        sampling_std: of that normal variable.
        max_loss_weight: the highest weight of a squared error; see `loss_weight`.

    Raises:
        ValueError: a shift, a standard deviation or a weight that isn't positive.
    """

    prediction: Prediction = "flow"
    shift: float = 1.0
    shift_training: bool = False
    sampling: TimeSampling = "uniform"
    sampling_mean: float = 0.0
    sampling_std: float = 1.0
    max_loss_weight: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("sampling", self.sampling, get_args(TimeSampling))
        for name in ("shift", "sampling_std", "max_loss_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive: 1 is neutral")

    def timesteps(self, steps: int, tokens: int | None = None) -> Tensor:
        """The descending times from 1 (noise) to 0 (data), shifted, (steps + 1,) float64; the same for any size.

        Raises:
            ValueError: less than one step.
        """
        if steps < 1:
            raise ValueError(f"steps={steps}: at least 1")
        return self._shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64))

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
        device = generator.device if generator is not None else None
        if self.sampling == "uniform":
            times = torch.rand(batch, generator=generator, device=device, dtype=torch.float64)
        else:
            normal = torch.randn(batch, generator=generator, device=device, dtype=torch.float64)
            times = torch.sigmoid(self.sampling_mean + self.sampling_std * normal)
        return self._shifted(times) if self.shift_training else times

    def loss_weight(self, timestep: Tensor) -> Tensor:
        """Weight of the squared error at each time, float64, of the timestep's shape.

        For a prediction of x0 it is the weight that turns its squared error into that of flow, capped: at a given x_s
        flow = (x_s - x0) / s, so 1 / s^2, at most `max_loss_weight`. Any other prediction has weight 1.
        """
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

    def _shifted(self, times: Tensor) -> Tensor:
        return self.shift * times / (1 + (self.shift - 1) * times)

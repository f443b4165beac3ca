"""Ancestral sampling of denoising diffusion models: each step draws from the reversal of a noising step."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._clipping import Clipping
from videogen.schedulers._discrete_vp import DATA_TIME, DiscreteVP
from videogen.schedulers._shared import Stepper, check_choice, like

Variance = Literal["fixed_small", "fixed_large", "learned_range"]
# the least variance that a logarithm is taken of
TINY = 1e-20


@SCHEDULERS.register("ddpm")
@dataclasses.dataclass(kw_only=True, eq=False)
class DDPM(Stepper, Clipping, DiscreteVP):
    """DDPM (Ho et al., arXiv 2006.11239): a noising chain of N steps, walked back with fresh noise in every step.

    Time -1 is clean data, N - 1 the noisiest; the chain's knobs are those of `DiscreteVP`, where x0 is bounded is told
    by those of `Clipping`.

    Args:
        variance: of the noise of a step: fixed_small, sigma'^2 / sigma^2 * beta, right for data without spread, or
            fixed_large, beta, right for data of unit variance (section 3.2); learned_range, between the two where the
            network says, which predicts as many channels again (Nichol and Dhariwal, arXiv 2102.09672, eq. 15).
        noisy_end: whether the step to data draws too, unless it starts at time 0, as published code has it: of
            fixed_large that noise is seen.

    Raises:
        ValueError: a knob out of range.
    """

    variance: Variance = "fixed_small"
    noisy_end: bool = False

    def __post_init__(self) -> None:
        Clipping.__post_init__(self)
        DiscreteVP.__post_init__(self)
        check_choice("variance", self.variance, get_args(Variance))

    @property
    def stochastic(self) -> bool:
        """True: every step but the last draws."""
        return True

    @property
    def learned_variance(self) -> bool:
        """Whether the variance stands behind the prediction: `step` takes twice as many channels then."""
        return self.variance == "learned_range"

    def step(
        self,
        prediction: Float[Tensor, "b c_all *rest"],
        timestep: Tensor,
        next_timestep: Tensor,
        sample: Float[Tensor, "b c *rest"],
        noise: Float[Tensor, "b c *rest"] | None = None,
    ) -> Float[Tensor, "b c *rest"]:
        """One ancestral step (arXiv 2006.11239, algorithm 2 with eq. 7), (B, C, ...) -> (B, C, ...).

        It may pass over training steps. The one that ends on clean data gives its mean alone. With learned_range the
        prediction is (B, 2 C, ...).

        Raises:
            ValueError: a step that doesn't lead towards data, or no noise where it is needed.
        """
        prediction, place = self._parted(prediction)
        x0, _ = self._solve(prediction, sample, timestep)
        x0 = self.clipped(x0)
        mean = self._mean(x0, sample, timestep, next_timestep)
        _, next_sigma = self.alpha_sigma(next_timestep)
        quiet = timestep <= 0 if self.noisy_end else next_sigma == 0
        if bool(quiet.all()):
            return mean.to(sample.dtype)
        if noise is None:
            raise ValueError(
                "a step of ddpm needs fresh noise: pass noise=torch.randn_like(sample), or sample with ddim"
            )
        spread = (self._log_variance(place, sample, timestep, next_timestep) / 2).exp()
        return (mean + spread.masked_fill(like(quiet.double(), sample) == 1, 0) * noise).to(sample.dtype)

    def variance_loss(
        self,
        prediction: Float[Tensor, "b c_all *rest"],
        x0: Float[Tensor, "b c *rest"],
        sample: Float[Tensor, "b c *rest"],
        timestep: Tensor,
    ) -> Float[Tensor, "b c *rest"]:
        """What the learned variance is trained on: a term of the likelihood's bound, in bits, of the sample's shape.

        The divergence of the predicted step from the exact reversal of the last noising step (arXiv 2102.09672, eq. 4),
        whose mean isn't trained by it. It is 0 at time 0, from where a step draws nothing.

        Args:
            prediction: (B, 2 C, ...) of the network at x_t = sample.
            timestep: whole numbers from 0, or -1 for clean frames; (B,), or one a frame (B, T).
        """
        predicted, place = self._parted(prediction)
        before = (timestep.double() - 1).clamp(min=DATA_TIME)
        predicted_x0, _ = self._solve(predicted.detach(), sample, timestep)
        miss = self._mean(x0, sample, timestep, before) - self._mean(predicted_x0, sample, timestep, before)
        _, exact = self._transition(timestep, before)
        log_exact = like(exact.clamp(min=TINY).log(), sample)
        log_learned = self._log_variance(place, sample, timestep, before)
        ratio = (log_exact - log_learned).exp() + miss.square() * (-log_learned).exp()
        bits = (ratio - 1 + log_learned - log_exact) / 2 / math.log(2)
        return bits * like((timestep > 0).double(), sample)

    def _parted(self, prediction: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction proper, and behind it where the variance lies, from -1 (fixed_small) to 1 (fixed_large)."""
        if not self.learned_variance:
            return prediction, None
        proper, place = prediction.chunk(2, dim=1)
        return proper, place

    def _mean(self, x0: Tensor, sample: Tensor, timestep: Tensor, next_timestep: Tensor) -> Tensor:
        """The mean of x at the next time for an x0 (arXiv 2006.11239, eq. 7)."""
        beta, _ = self._transition(timestep, next_timestep)
        (alpha, sigma), (next_alpha, next_sigma) = self.alpha_sigma(timestep), self.alpha_sigma(next_timestep)
        # alpha is that of the signal, whose scale is no part of the chain; clean frames stay as they are
        of_sample = (1 - beta).sqrt() * (next_sigma / sigma).square().where(sigma > 0, 1.0)
        of_x0 = next_alpha - of_sample * alpha
        return like(of_x0, sample) * x0 + like(of_sample, sample) * sample

    def _log_variance(self, place: Tensor | None, sample: Tensor, timestep: Tensor, next_timestep: Tensor) -> Tensor:
        """The logarithm of the variance of a step, of the sample's axes."""
        large, small = (like(each.clamp(min=TINY).log(), sample) for each in self._transition(timestep, next_timestep))
        if place is None:
            return large if self.variance == "fixed_large" else small
        return torch.lerp(small.expand_as(place), large.expand_as(place), (place.to(small) + 1) / 2)

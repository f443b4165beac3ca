"""Ancestral sampling of denoising diffusion models: each step draws from the reversal of a noising step."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers._discrete_vp import DiscreteVP
from videogen.schedulers._shared import Stepper, check_choice, like

Variance = Literal["fixed_small", "fixed_large"]


@SCHEDULERS.register("ddpm")
@dataclasses.dataclass(kw_only=True, eq=False)
class DDPM(Stepper, DiscreteVP):
    """DDPM (Ho et al., arXiv 2006.11239): a noising chain of N steps, walked back with fresh noise in every step.

    Time -1 is clean data, N - 1 the noisiest; the chain's knobs are those of `DiscreteVP`.

    Args:
        variance: of the noise of a step: fixed_small, sigma'^2 / sigma^2 * beta, right for data without spread, or
            fixed_large, beta, right for data of unit variance (section 3.2).
        clip_x0: predicted clean latents are clamped to [-clip_x0, clip_x0]; 0 leaves them.

    Raises:
        ValueError: a knob out of range.
    """

    variance: Variance = "fixed_small"
    clip_x0: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("variance", self.variance, get_args(Variance))
        if self.clip_x0 < 0:
            raise ValueError(f"clip_x0={self.clip_x0}: at least 0; 0 switches it off")

    @property
    def stochastic(self) -> bool:
        """True: every step but the last draws."""
        return True

    def step(
        self,
        prediction: Float[Tensor, "b c *rest"],
        timestep: Tensor,
        next_timestep: Tensor,
        sample: Float[Tensor, "b c *rest"],
        noise: Float[Tensor, "b c *rest"] | None = None,
    ) -> Float[Tensor, "b c *rest"]:
        """One ancestral step (arXiv 2006.11239, algorithm 2 with eq. 7), (B, C, ...) -> (B, C, ...).

        It may pass over training steps. The one that ends on clean data gives its mean alone.

        Raises:
            ValueError: a step that doesn't lead towards data, or no noise where it is needed.
        """
        beta, variance = self._transition(timestep, next_timestep)
        (alpha, sigma), (next_alpha, next_sigma) = self.alpha_sigma(timestep), self.alpha_sigma(next_timestep)
        x0, _ = self._solve(prediction, sample, timestep)
        if self.clip_x0:
            x0 = x0.clamp(-self.clip_x0, self.clip_x0)
        # alpha is that of the signal, whose scale is no part of the chain; clean frames stay as they are
        of_sample = (1 - beta).sqrt() * (next_sigma / sigma).square().where(sigma > 0, 1.0)
        of_x0 = next_alpha - of_sample * alpha
        mean = like(of_x0, sample) * x0 + like(of_sample, sample) * sample
        if bool((next_sigma == 0).all()):
            return mean.to(sample.dtype)
        if noise is None:
            raise ValueError(
                "a step of ddpm needs fresh noise: pass noise=torch.randn_like(sample), or sample with ddim"
            )
        spread = (beta if self.variance == "fixed_large" else variance).sqrt().masked_fill(next_sigma == 0, 0)
        return (mean + like(spread, sample) * noise).to(sample.dtype)

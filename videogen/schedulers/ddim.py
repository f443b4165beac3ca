"""Implicit sampling of denoising diffusion models: few steps, as random as wanted, without noise an ODE solver."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor

from videogen.schedulers import SCHEDULERS, Size
from videogen.schedulers._clipping import Clipping
from videogen.schedulers._discrete_vp import DATA_TIME, DiscreteVP
from videogen.schedulers._shared import Stepper, like


@SCHEDULERS.register("ddim")
@dataclasses.dataclass(kw_only=True, eq=False)
class DDIM(Stepper, Clipping, DiscreteVP):
    """DDIM (Song et al., arXiv 2010.02502): the chain of DDPM, walked back in few steps, without noise at eta 0.

    Time -1 is clean data, N - 1 the noisiest; the chain's knobs are those of `DiscreteVP`, where x0 is bounded is told
    by those of `Clipping`.

    Args:
        eta: 0 to 1, how random a step is: 0 is the deterministic ODE, 1 as random as DDPM (eq. 16).
        set_alpha_to_one: whether the last step ends on clean data, time -1; otherwise it ends at time 0, whose
            little noise stays, as published latent diffusion models do.
        clip_noise: whether the noise of a step is what a bounded x0 leaves of the sample; diffusers keeps the predicted
            noise beside it.

    Raises:
        ValueError: a knob out of range.
    """

    eta: float = 0.0
    set_alpha_to_one: bool = True
    clip_noise: bool = True

    def __post_init__(self) -> None:
        Clipping.__post_init__(self)
        DiscreteVP.__post_init__(self)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta={self.eta} lies outside [0, 1]: 0 adds no noise, 1 as much as DDPM")

    @property
    def stochastic(self) -> bool:
        """Whether a step draws: for any eta but 0."""
        return self.eta > 0

    def timesteps(self, steps: int, size: Size | None = None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64, whole numbers; at the end -1, or 0 without
        `set_alpha_to_one`.

        Raises:
            ValueError: no step, or more than there are training steps.
        """
        times = super().timesteps(steps, size)
        return times if self.set_alpha_to_one else times.clamp(min=DATA_TIME + 1)

    def step(
        self,
        prediction: Float[Tensor, "b c *rest"],
        timestep: Tensor,
        next_timestep: Tensor,
        sample: Float[Tensor, "b c *rest"],
        noise: Float[Tensor, "b c *rest"] | None = None,
    ) -> Float[Tensor, "b c *rest"]:
        """One step (arXiv 2010.02502, eq. 12 and 16), (B, C, ...) -> (B, C, ...); at eta 0 to data or to noise.

        Raises:
            ValueError: with eta above 0, no noise or a step that doesn't lead towards data.
        """
        x0, predicted_noise = self._solve(prediction, sample, timestep)
        if self.clip_x0:
            x0 = self.clipped(x0)
            predicted_noise = self.noise_of(x0, sample, timestep) if self.clip_noise else predicted_noise
        alpha, sigma = self._at(next_timestep, sample)
        if self.eta == 0:
            return (alpha * x0 + sigma * predicted_noise).to(sample.dtype)
        if noise is None:
            raise ValueError(f"a step with eta={self.eta} needs fresh noise: pass noise=torch.randn_like(sample)")
        _, variance = self._transition(timestep, next_timestep)
        _, next_sigma = self.alpha_sigma(next_timestep)
        # the noise of the next time is part the predicted one and part the fresh one
        kept = like((next_sigma.square() - self.eta**2 * variance).clamp(min=0).sqrt(), sample)
        fresh = like(self.eta * variance.sqrt(), sample)
        return (alpha * x0 + kept * predicted_noise + fresh * noise).to(sample.dtype)

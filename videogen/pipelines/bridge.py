"""The bridge between what a network was trained on and the sampler that walks: other times, scales and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.schedulers import NoiseSchedule

if TYPE_CHECKING:
    from videogen.schedulers import Network


class Bridge:
    """Lets a network trained under one noise schedule run under a sampler of another.

    The ratio alpha / sigma alone is the noise level: x_t = alpha * x0 + sigma * noise of one schedule, scaled, is x_t
    of any other at the time of equal ratio (Kingma et al., arXiv 2107.00630, section 5.1). At a noise level beyond
    the objective's range the network is asked at its nearest time.

    Args:
        objective: the schedule and prediction that the network was trained with.
        sampler: the schedule and prediction of the walk; the objective itself for a solver that walks on it, and then
            there is nothing to bridge.
    """

    def __init__(self, objective: NoiseSchedule, sampler: NoiseSchedule) -> None:
        self.objective, self.sampler = objective, sampler

    def predict(
        self, network: Network, sample: Float[Tensor, "b c *rest"], timestep: Tensor
    ) -> Float[Tensor, "b c_all *rest"]:
        """The network's prediction at the sampler's x_t, in the sampler's terms, (B, C, ...) -> (B, C, ...).

        Args:
            network: (x_t, time) of the objective -> the objective's prediction; further channels behind it, those of a
                learned variance, are given back as they are.
            timestep: of the sampler: one for all (), per sample (B,) or per frame (B, T).

        Raises:
            ValueError: a network of epsilon where its alpha is 0.
        """
        if self.sampler is self.objective:
            return network(sample, timestep)
        model_sample, model_time = self.to_objective(sample, timestep)
        output = network(model_sample, model_time)
        prediction, behind = output[:, : sample.shape[1]], output[:, sample.shape[1] :]
        return torch.cat([self.to_sampler(prediction, sample, timestep), behind], dim=1)

    def to_objective(self, sample: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and time of the sampler -> x_t (B, C, ...) and time, of the timestep's shape, of the objective."""
        alpha, sigma = self.sampler.alpha_sigma(timestep)
        time = self.objective.time_of(alpha, sigma)
        model_alpha, model_sigma = self.objective.alpha_sigma(time)
        # equal to alpha_m / alpha and to sigma_m / sigma, and finite where either is 0
        scale = torch.hypot(model_alpha, model_sigma) / torch.hypot(alpha, sigma)
        return (_like(scale, sample) * sample).to(sample.dtype), time

    def to_sampler(self, prediction: Tensor, sample: Tensor, timestep: Tensor) -> Tensor:
        """The objective's prediction at the sampler's x_t = sample -> the sampler's, (B, C, ...) -> (B, C, ...)."""
        exact = sample.to(torch.promote_types(sample.dtype, torch.float32))
        x0, noise = self.objective.split(prediction, *self.to_objective(exact, timestep))
        alpha, sigma = (_like(level, exact) for level in self.sampler.alpha_sigma(timestep))
        # beyond the objective's range x0 and noise fit its x_t and not the sampler's: the one with the smaller part in
        # it is believed, the other is what then remains. Within the range this changes nothing
        noisy = sigma >= alpha
        remaining_noise = (exact - alpha * x0) / sigma.where(noisy, 1.0)
        remaining_x0 = (exact - sigma * noise) / alpha.where(~noisy, 1.0)
        x0, noise = x0.where(noisy, remaining_x0), remaining_noise.where(noisy, noise)
        return self.sampler.join(x0, noise, timestep).to(sample.dtype)


def _like(values: Tensor, sample: Tensor) -> Tensor:
    """Values (), (B,) or (B, T) shaped to multiply a sample (B, C, T, ...), on its device, in float32 or better."""
    axes = [1] * sample.ndim
    for axis, size in zip((0, 2), values.shape, strict=False):
        axes[axis] = size
    return values.reshape(axes).to(torch.promote_types(sample.dtype, torch.float32)).to(sample.device)

"""Noise schedules and samplers, one algorithm a file: the contract that all of them keep.

Noisy latents are x_t = alpha_t * x0 + sigma_t * noise. What a network predicts of them is named and signed:

    x0        the clean latents
    epsilon   the noise
    v         alpha_t * noise - sigma_t * x0     (Salimans and Ho, arXiv 2202.00512)
    flow      noise - x0                          (rectified flow, arXiv 2209.03003; d x_t / d sigma)
    flow_neg  x0 - noise                          (the same with the opposite sign)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Generator, Tensor

Prediction = Literal["x0", "epsilon", "v", "flow", "flow_neg"]


class Scheduler(Protocol):
    """A noise schedule, the training objective on it, and one way to walk from noise to data."""

    prediction: Prediction

    def timesteps(self, steps: int, tokens: int | None = None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64: each step goes from one entry to the next.

        Args:
            tokens: number of latent tokens, for schedules that shift by size.
        """
        ...

    def alpha_sigma(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at each time, of the timestep's shape."""
        ...

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The time of this schedule whose ratio alpha / sigma is the given one: how a network trained on one schedule
        runs under another's sampler."""
        ...

    def sample_times(self, batch: int, generator: Generator | None = None) -> Tensor:
        """Training times (batch,)."""
        ...

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t of shape (B, ...) at timestep (B,) or, for latents (B, C, T, H, W), per frame (B, T)."""
        ...

    def target(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network should predict, in this scheduler's prediction type."""
        ...

    def loss_weight(self, timestep: Tensor) -> Tensor:
        """Weight of the squared error at each time, of the timestep's shape."""
        ...

    def split(self, prediction: Tensor, sample: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """A prediction at x_t = sample -> (x0, noise)."""
        ...

    def join(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """(x0, noise) -> this scheduler's prediction; the inverse of `split`."""
        ...

    def step(
        self, prediction: Tensor, timestep: Tensor, next_timestep: Tensor, sample: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """One step from x at `timestep` to x at `next_timestep` (both scalars).

        Args:
            noise: fresh standard normal noise of the sample's shape, for samplers whose `stochastic` is True.
        """
        ...

    @property
    def stochastic(self) -> bool:
        """Whether `step` needs fresh noise."""
        ...


SCHEDULERS: Registry[Scheduler] = Registry("scheduler", "videogen.schedulers")

"""Noise schedules and samplers, one algorithm a file: the contracts that all of them keep.

Four ideas, each exchangeable without the others: how much noise there is at a time (`NoiseSchedule`), what a network
predicts, which times a walk visits, and how it steps from one to the next (`Scheduler`). A scheduler either brings the
noise schedule that it was published with (`ddpm`, `ddim`, `rectified_flow`, `edm`: these can train, see `Objective`),
or is a solver that is given one, that of the network: it knows alpha and sigma alone, and so runs on any.

Noisy latents are x_t = alpha_t * x0 + sigma_t * noise. What a network predicts of them is named and signed:

    x0        the clean latents
    epsilon   the noise
    v         alpha_t * noise - sigma_t * x0     (Salimans and Ho, arXiv 2202.00512)
    v_neg     sigma_t * x0 - alpha_t * noise     (the opposite sign; EDM's F, arXiv 2206.00364, eq. 7)
    flow      noise - x0                          (rectified flow, arXiv 2209.03003; d x_t / d sigma)
    flow_neg  x0 - noise                          (the same with the opposite sign)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Generator, Tensor

    #: (x_t, time) of a noise schedule -> the prediction, of the same shape
    Network = Callable[[Tensor, Tensor], Tensor]
    #: fresh standard normal noise of the sample's shape
    Draw = Callable[[], Tensor]

Prediction = Literal["x0", "epsilon", "v", "v_neg", "flow", "flow_neg"]
#: latent frames, height and width of a sample
Size = tuple[int, int, int]


class NoiseSchedule(Protocol):
    """How much signal and noise there is at each time, and what a network predicts of the two."""

    prediction: Prediction

    def alpha_sigma(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at each time, of the timestep's shape."""
        ...

    def time_of(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The time of this schedule whose ratio alpha / sigma is the given one: how a network trained on one schedule
        runs under another's sampler."""
        ...

    def grid(self, steps: int, spacing: str, offset: int = 0) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64, evenly spaced in time.

        Args:
            spacing: "trailing", "linspace" or "leading" (Lin et al., arXiv 2305.08891, table 2).
            offset: added to the times of leading.
        """
        ...

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and highest ratio sigma / alpha that a network of this schedule has seen."""
        ...

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """x_t of shape (B, ...) at timestep (B,) or, for latents (B, C, T, H, W), per frame (B, T)."""
        ...

    def split(self, prediction: Tensor, sample: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """A prediction at x_t = sample -> (x0, noise)."""
        ...

    def noise_of(self, x0: Tensor, sample: Tensor, timestep: Tensor) -> Tensor:
        """The noise in x_t = sample if this is its x0."""
        ...

    def join(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """(x0, noise) -> this schedule's prediction; the inverse of `split`."""
        ...


class Objective(NoiseSchedule, Protocol):
    """A noise schedule that trains: which times are drawn, and what an error there weighs."""

    def sample_times(self, batch: int, generator: Generator | None = None) -> Tensor:
        """Training times (batch,)."""
        ...

    def target(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network should predict, in this schedule's prediction type."""
        ...

    def loss_weight(self, timestep: Tensor) -> Tensor:
        """Weight of the squared error at each time, of the timestep's shape."""
        ...


class Scheduler(Protocol):
    """One way to walk from noise to data."""

    @property
    def noise(self) -> NoiseSchedule:
        """What it walks on: the meaning of its times, and of the predictions that it asks for."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether the walk draws fresh noise."""
        ...

    def timesteps(self, steps: int, size: Size | None = None) -> Tensor:
        """The descending times of `steps` steps, (steps + 1,) float64: each step goes from one entry to the next.

        Args:
            size: of a sample's latents, for times that are shifted by size.
        """
        ...

    def walk(self, network: Network, sample: Tensor, times: Tensor, draw: Draw) -> Iterator[Tensor]:
        """From x at times[0] to x at times[-1]: x after each step, of the sample's shape and dtype.

        What a method remembers from step to step are variables of this generator: two walks never meet.

        Args:
            network: asked for the prediction at x_t, in this scheduler's terms, as often as the method has to.
            sample: x at times[0], (B, C, ...).
            times: scalars, (steps + 1,); or, for latents (B, C, T, H, W), per frame (steps + 1, B, T).
            draw: called only by a method that is `stochastic`, once or not at all in a step.
        """
        ...


SCHEDULERS: Registry[Scheduler] = Registry("scheduler", "videogen.schedulers")

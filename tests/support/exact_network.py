"""A network that is right: what a perfect one predicts for independent normal values."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from videogen.schedulers import NoiseSchedule

MEAN, SPREAD = 0.7, 0.5


def exact_network(noise: NoiseSchedule) -> Callable[[Tensor, Tensor], Tensor]:
    """What a perfect network predicts for normal values of MEAN and SPREAD."""

    def network(sample: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = noise.alpha_sigma(time)
        gain = alpha * SPREAD**2 / (alpha**2 * SPREAD**2 + sigma**2)
        x0 = MEAN + gain * (sample - alpha * MEAN)
        return noise.join(x0, noise.noise_of(x0, sample, time), time)

    return network

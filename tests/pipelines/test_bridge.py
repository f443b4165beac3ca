"""A network of one schedule under the sampler of another: identities, and normal data where all is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor

from videogen.pipelines.bridge import Bridge
from videogen.schedulers import SCHEDULERS, Scheduler
from videogen.schedulers.ddim import DDIM
from videogen.schedulers.ddpm import DDPM
from videogen.schedulers.rectified_flow import RectifiedFlow

SHAPE = (3, 2, 4, 3, 2)
MEAN, SPREAD = 0.7, 0.5

OBJECTIVES: dict[str, Callable[[], Scheduler]] = {
    "flow": RectifiedFlow,
    "flow of x0": lambda: RectifiedFlow(prediction="x0"),
    "ddpm of epsilon": DDPM,
    "ddpm of v without terminal signal": lambda: DDPM(prediction="v", zero_terminal_snr=True, beta_schedule="cosine"),
}
SAMPLERS: dict[str, Callable[[], Scheduler]] = {
    "rectified_flow": RectifiedFlow,
    "rectified_flow shifted": lambda: RectifiedFlow(shift=3.0),
    "ddim": DDIM,
    "ddim of v without terminal signal": lambda: DDIM(prediction="v", zero_terminal_snr=True),
}
each_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def exact_network(objective: Scheduler) -> Callable[[Tensor, Tensor], Tensor]:
    """What a perfect network predicts for independent normal values of MEAN and SPREAD."""

    def network(sample: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = objective.alpha_sigma(time)
        variance = alpha**2 * SPREAD**2 + sigma**2
        x0 = MEAN + alpha * SPREAD**2 / variance * (sample - alpha * MEAN)
        return objective.join(x0, sigma / variance * (sample - alpha * MEAN), time)

    return network


def walk(bridge: Bridge, network: Callable[[Tensor, Tensor], Tensor], sample: Tensor, steps: int) -> Tensor:
    source = Generator().manual_seed(99)
    for time, next_time in pairwise(bridge.sampler.timesteps(steps)):
        prediction = bridge.predict(network, sample, time)
        fresh = torch.randn(sample.shape, generator=source, dtype=sample.dtype) if bridge.sampler.stochastic else None
        sample = bridge.sampler.step(prediction, time, next_time, sample, fresh)
    return sample


@pytest.mark.parametrize("name", [name for name in SCHEDULERS.names() if not SCHEDULERS.describe(name).wiring])
@pytest.mark.parametrize("shape", [(), (3,), (3, 4)], ids=["scalar", "sample", "frame"])
def test_between_equal_schedules_nothing_changes(name: str, shape: tuple[int, ...]) -> None:
    objective, sampler = SCHEDULERS.build(name), SCHEDULERS.build(name)
    seen: list[Tensor] = []

    def network(sample: Tensor, time: Tensor) -> Tensor:
        seen.extend((sample, time))
        return 0.3 * sample + 0.1

    low, high = sampler.timesteps(20)[[-2, 1]]
    sample = draw(*SHAPE)
    timestep = low + (high - low) * torch.rand(shape, generator=Generator().manual_seed(1), dtype=torch.float64)
    prediction = Bridge(objective, sampler).predict(network, sample, timestep)
    torch.testing.assert_close(seen[0], sample, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seen[1], timestep, rtol=1e-12, atol=1e-12)
    # splitting and joining an epsilon divides by alpha, of at least 0.01, and multiplies again
    torch.testing.assert_close(prediction, 0.3 * sample + 0.1, rtol=1e-12, atol=1e-12)


def test_a_solver_on_the_objective_itself_needs_no_bridge() -> None:
    objective = RectifiedFlow()
    solver = SCHEDULERS.build("unipc", objective)
    sample, time = draw(*SHAPE, dtype=torch.float32), torch.tensor(1.0)
    asked: list[Tensor] = []
    Bridge(objective, solver.noise).predict(lambda x, t: asked.extend((x, t)) or x, sample, time)
    assert asked[0] is sample
    assert asked[1] is time


@each_objective
@each_sampler
def test_x0_and_noise_mean_the_same_on_both_sides(
    objective: Callable[[], Scheduler], sampler: Callable[[], Scheduler]
) -> None:
    bridge = Bridge(objective(), sampler())
    x0, noise = draw(*SHAPE), draw(*SHAPE, seed=1)
    for time in bridge.sampler.timesteps(9)[1:-1]:
        sample = bridge.sampler.add_noise(x0, noise, time)
        model_sample, model_time = bridge.to_objective(sample, time)
        torch.testing.assert_close(model_sample, bridge.objective.add_noise(x0, noise, model_time))
        knowing = bridge.objective.join(x0, noise, model_time)
        torch.testing.assert_close(bridge.to_sampler(knowing, sample, time), bridge.sampler.join(x0, noise, time))


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        ("flow", "rectified_flow"),
        ("flow", "ddim"),
        ("flow of x0", "ddim of v without terminal signal"),
        ("ddpm of epsilon", "ddim"),
        ("ddpm of epsilon", "rectified_flow"),
        ("ddpm of v without terminal signal", "rectified_flow shifted"),
    ],
)
def test_the_walk_converges_to_the_exact_ode(objective: str, sampler: str) -> None:
    bridge = Bridge(OBJECTIVES[objective](), SAMPLERS[sampler]())
    start = draw(*SHAPE)
    errors = []
    for steps in (50, 200):
        alpha, sigma = bridge.sampler.alpha_sigma(bridge.sampler.timesteps(steps)[0])
        # the probability flow of normal data keeps every value at its quantile
        exact = MEAN + SPREAD * (start - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2).sqrt()
        found = walk(bridge, exact_network(bridge.objective), start, steps)
        errors.append((found - exact).square().mean().sqrt().item())
    assert errors[1] < 1e-2
    # of first order: a quarter of the step is a quarter of the error
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_ddpm_gives_the_right_mean_and_spread() -> None:
    bridge = Bridge(RectifiedFlow(), DDPM())
    count = 10_000
    sample = walk(bridge, exact_network(bridge.objective), draw(count, 1), 300)
    # four standard errors of each, and 1 % that 300 steps may leave in the spread
    assert abs(sample.mean().item() - MEAN) < 4 * SPREAD / count**0.5
    assert abs(sample.std().item() / SPREAD - 1) < 4 / (2 * count) ** 0.5 + 0.01


def test_noisier_than_the_objective_knows_its_x0_is_what_the_sampler_takes() -> None:
    objective, sampler = DDPM(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012), RectifiedFlow()
    noise, time = draw(*SHAPE), torch.tensor(1.0, dtype=torch.float64)
    bridge = Bridge(objective, sampler)
    model_sample, model_time = bridge.to_objective(noise, time)
    assert model_time.item() == 999
    torch.testing.assert_close(model_sample, noise)
    known, _ = objective.split(draw(*SHAPE, seed=1), model_sample, model_time)
    taken, rest = sampler.split(bridge.to_sampler(draw(*SHAPE, seed=1), noise, time), noise, time)
    torch.testing.assert_close(taken, known)
    torch.testing.assert_close(rest, noise)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_latents_keep_their_dtype_and_half_precision_is_for_holding_them_alone(dtype: torch.dtype) -> None:
    bridge = Bridge(RectifiedFlow(), DDIM(prediction="v"))
    sample, time = draw(*SHAPE, dtype=dtype), bridge.sampler.timesteps(10)[3]
    prediction = bridge.predict(lambda x, t: 0.3 * x, sample, time)
    assert prediction.dtype == dtype
    exact = bridge.predict(lambda x, t: 0.3 * x, sample.double(), time)
    # the network's input and output and the result are rounded
    torch.testing.assert_close(prediction.double(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps)

"""Solvers on data whose score is known exactly: their order, and where each of them ends in the limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact_network import MEAN, SPREAD, exact_network
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, NoiseSchedule, Scheduler
from videogen.schedulers.ddpm import DDPM
from videogen.schedulers.edm import EDM
from videogen.schedulers.rectified_flow import RectifiedFlow

NOISES: dict[str, Callable[[], NoiseSchedule]] = {
    "flow": lambda: RectifiedFlow(prediction="v"),
    "chain": DDPM,
    "chain to pure noise": lambda: DDPM(prediction="v", zero_terminal_snr=True, beta_schedule="cosine"),
    "edm": EDM,
}
# a scheduler that is given no noise schedule brings its own
OWN = [name for name in SCHEDULERS.names() if not SCHEDULERS.describe(name).wiring]
# one without data at its noisiest, one with
TWO = ["flow", "chain"]
WALKS = [
    pytest.param(name, noise, marks=[pytest.mark.slow] if noise == "chain" else [])
    for name in SCHEDULERS.names()
    for noise in (["own"] if name in OWN else TWO)
]
WHOLE = {"lower_order_final": False}
# scheduler, its knobs, its order; quick tests are those of the names alone, and of the highest order
ORDERS: list[tuple[str, dict[str, Any], int]] = [
    ("euler", {}, 1),
    ("euler_ancestral", {"eta": 0.0}, 1),
    ("heun", {}, 2),
    ("pndm", {}, 4),
    ("pndm", {"warm_up": "runge_kutta"}, 4),
    ("pndm", {"nodes": "steps"}, 2),
    ("dpm_solver", {"order": 1}, 1),
    ("dpm_solver", {"order": 2}, 2),
    ("dpm_solver", {"order": 2, "second": "heun"}, 2),
    ("dpm_solver", {"order": 3}, 3),
    *(("unipc", {"order": order, "variant": "bh1", **WHOLE}, order + 1) for order in (1, 2)),
    *(("unipc", {"order": order, "variant": "bh2", **WHOLE}, order + 1) for order in (1, 2)),
    *(("unipc", {"order": order, "corrector": False, **WHOLE}, order) for order in (1, 2, 3)),
    ("unipc", {"order": 3, **WHOLE}, 4),
    ("rectified_flow", {}, 1),
    ("rectified_flow", {"method": "heun"}, 2),
    ("edm", {"method": "euler"}, 1),
    ("edm", {}, 2),
    ("ddim", {}, 1),
]


def build(name: str, noise: str, **knobs: Any) -> Scheduler:
    return SCHEDULERS.build(name, *([] if noise == "own" else [NOISES[noise]()]), **knobs)


def at(noise: NoiseSchedule, time: Tensor, quantiles: Tensor) -> Tensor:
    """Where the probability flow holds the values of these standard normal quantiles."""
    alpha, sigma = noise.alpha_sigma(time)
    return alpha * MEAN + quantiles * (alpha**2 * SPREAD**2 + sigma**2).sqrt()


def error(scheduler: Scheduler, times: Tensor) -> float:
    quantiles = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    noise = scheduler.noise
    *_, end = scheduler.walk(
        exact_network(noise), at(noise, times[0], quantiles), times, lambda: pytest.fail("it drew")
    )
    return float((end - at(noise, times[-1], quantiles)).abs().max())


def inner_times(noise: NoiseSchedule, steps: int) -> Tensor:
    """From a ratio of noise and data of 60 to one of 0.05, even in the cube root: what any solver finds smooth."""
    root = torch.linspace(60 ** (1 / 3), 0.05 ** (1 / 3), steps + 1, dtype=torch.float64)
    return noise.time_of(torch.ones_like(root), root**3)


@pytest.mark.parametrize(
    ("name", "knobs", "order"),
    [pytest.param(*row, marks=[pytest.mark.slow] if row[1] and row[2] < 3 else []) for row in ORDERS],
    ids=str,
)
def test_the_error_falls_with_the_order(name: str, knobs: dict[str, Any], order: int) -> None:
    scheduler = build(name, "own" if name in OWN else "edm", **knobs)
    if name == "ddim":
        # its schedule ends at a lower noise level, and has kinks at the training steps that no solver sees through
        times = [scheduler.timesteps(steps)[:-1] for steps in (50, 100)]
    else:
        times = [inner_times(scheduler.noise, steps) for steps in (80, 160)]
    first, second = (error(scheduler, each) for each in times)
    assert math.log2(first / second) == pytest.approx(order, abs=0.15)


def test_the_published_third_order_is_of_second() -> None:
    """Half of a parabola's curvature is missing in it: the error that is left falls with the square of the steps."""
    errors = {}
    for curvature in (0.5, 1.0):
        knobs = {"spacing": "exponential", "sigma_max": 60.0, "sigma_min": 0.05}
        scheduler = build("dpm_solver", "edm", order=3, curvature=curvature, **knobs)
        errors[curvature] = [error(scheduler, scheduler.timesteps(steps)[:-1]) for steps in (40, 80)]
    assert 1.7 < math.log2(errors[0.5][0] / errors[0.5][1]) < 2.3
    assert errors[1.0][1] < errors[0.5][1] / 10


@pytest.mark.parametrize(("name", "noise"), WALKS)
def test_every_sampler_reaches_the_data(name: str, noise: str) -> None:
    """From pure noise to clean data in many steps: mean and spread, and for an ODE every value at its quantile."""
    scheduler = build(name, noise)
    count, steps = 4096, 4 if name == "lcm" else 100
    # evenly spread quantiles have the mean and the spread of normal values
    start = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)[:, None]
    times, source = scheduler.timesteps(steps), Generator().manual_seed(0)
    _, sigma = scheduler.noise.alpha_sigma(times[0])
    walk = scheduler.walk(
        exact_network(scheduler.noise),
        sigma * start,
        times,
        lambda: torch.randn(start.shape, generator=source).double(),
    )
    *_, end = walk
    assert float(end.mean()) == pytest.approx(MEAN, abs=4 * SPREAD / count**0.5)
    if name == "lcm":
        # a network that gives means and was never distilled: each step shrinks the spread
        assert float(end.std()) < SPREAD
    elif scheduler.stochastic:
        # 4 standard errors, and what steps of first order leave
        assert float(end.std()) == pytest.approx(SPREAD, rel=4 / (2 * count) ** 0.5 + 0.05)
    else:
        exact = at(scheduler.noise, times[-1], start)
        # a fiftieth of the spread is what Euler's method leaves in 100 steps
        assert float((end - exact).abs().mean()) < 0.03 * SPREAD


@pytest.mark.parametrize("order", [2, 3])
def test_unipc_without_its_corrector_is_dpm_solver(order: int) -> None:
    noise = RectifiedFlow()
    predictor = SCHEDULERS.build("unipc", noise, order=order, corrector=False, lower_order_final=False)
    other = SCHEDULERS.build("dpm_solver", noise, order=order)
    times = inner_times(noise, 20)
    start = at(noise, times[0], torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None])
    walks = (each.walk(exact_network(noise), start, times, lambda: start) for each in (predictor, other))
    for found, wanted in zip(*walks, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_ancestral_steps_are_those_of_ddim_with_eta() -> None:
    ddim = SCHEDULERS.build("ddim", eta=0.7, prediction="v")
    ancestral = SCHEDULERS.build("euler_ancestral", DDPM(prediction="v"), eta=0.7)
    start = torch.randn(6, 3, generator=Generator().manual_seed(0), dtype=torch.float64)
    walks = []
    for scheduler in (ddim, ancestral):
        fresh = Generator().manual_seed(1)
        draw = lambda fresh=fresh: torch.randn(6, 3, generator=fresh, dtype=torch.float64)  # noqa: E731
        walks.append(scheduler.walk(exact_network(scheduler.noise), start, ddim.timesteps(12), draw))
    for found, wanted in zip(*walks, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_few_steps_of_high_order_beat_many_of_low() -> None:
    """What a solver is chosen for: the same network, the same number of predictions."""
    noise = RectifiedFlow()
    # Euler's 16 predictions against Heun's 8 steps and the multistep methods' 16
    errors = {
        name: error(SCHEDULERS.build(name, noise), noise.grid(steps, "trailing"))
        for name, steps in (("euler", 16), ("heun", 8), ("pndm", 15), ("dpm_solver", 16), ("unipc", 16))
    }
    assert all(errors[name] < 0.5 * errors["euler"] for name in errors if name != "euler")
    assert list(itertools.islice(sorted(errors, key=errors.__getitem__), 4, None)) == ["euler"]

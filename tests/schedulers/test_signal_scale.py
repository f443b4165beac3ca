"""A scaled signal: VideoCrafter's sampler as its code ran, DynamiCrafter's by its formulas, and the algebra of both.

The fixture holds what VideoCrafter's own DDIM gave for a made-up network, in float32: 50 steps with eta 1, guidance 12.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor

from videogen.config import build_part, compose
from videogen.schedulers.ddim import DDIM
from videogen.schedulers.ddpm import DDPM

FIXTURE = Path(__file__).parent / "fixtures" / "videocrafter_scaled" / "io.safetensors"
LATENT: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
Distance = Callable[[Tensor, Tensor], float]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in load_file(FIXTURE).items()}


def sampler(preset: str) -> DDIM:
    scheduler = build_part("scheduler", compose("generate", [f"model={preset}"])["scheduler"])
    assert isinstance(scheduler, DDIM)
    return scheduler


def test_videocrafter_noises_a_scaled_signal(golden: dict[str, Tensor], distance: Distance) -> None:
    scheduler = sampler("videocrafter2")
    noisy = scheduler.add_noise(golden["q_x0"], golden["q_noise"], golden["q_t"])
    assert distance(noisy, golden["q_out"]) < 1e-6
    times = torch.arange(1000)
    plain = DDIM(**LATENT)
    scale = scheduler.alpha_sigma(times)[0] / plain.alpha_sigma(times)[0]
    assert distance(scale, golden["scale_arr"][:1000]) < 1e-6


def test_it_walks_as_videocrafter_s_sampler_does(golden: dict[str, Tensor], distance: Distance) -> None:
    scheduler = sampler("videocrafter2")
    assert (scheduler.eta, scheduler.stochastic) == (1.0, True)
    times = scheduler.timesteps(50)
    assert times[:-1].flip(0).tolist() == golden["ddim_timesteps"].tolist()

    def network(sample: Tensor, time: Tensor, told: Tensor) -> Tensor:
        return 0.3 * sample + 0.2 * (time / 100).sin() + 0.5 * told.mean().tanh()

    latents = golden["x_T"]
    for index, (time, after) in enumerate(pairwise(times)):
        given, without = (network(latents, time, golden[name]) for name in ("cond", "uncond"))
        prediction = without + 12.0 * (given - without)
        x0, _ = scheduler.split(prediction, latents, time)
        latents = scheduler.step(prediction, time, after, latents, golden["noise"][index])
        # float32 there, in which a guidance of 12 over 50 steps loses two digits
        assert distance(x0, golden["pred_x0"][index]) < 1e-5
        assert distance(latents, golden["x"][index]) < 1e-5


@pytest.mark.parametrize(("preset", "scale"), [("dynamicrafter_512", 0.7), ("dynamicrafter_1024", 0.3)])
def test_it_walks_as_dynamicrafter_s_formulas_say(preset: str, scale: float, distance: Distance) -> None:
    """Betas without terminal signal, a prediction of v of the scaled signal, trailing times, eta 1."""
    scheduler, steps = sampler(preset), 50
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    roots = np.sqrt(np.cumprod(1 - betas))
    bars = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
    scales = np.concatenate([np.linspace(1.0, scale, 400), np.full(1000, scale)])
    grid = np.flip(np.round(np.arange(1000, 0, -1000 / steps))).astype(int) - 1
    bars_before = np.append(bars[0], bars[grid[:-1]])
    scales_before = np.append(scales[grid[0]], scales[grid[:-1]])

    x0 = draw(2, 4, 3, 2, 2)
    theirs = ours = draw(2, 4, 3, 2, 2, seed=1)
    times = scheduler.timesteps(steps)
    for index, (time, after) in enumerate(pairwise(times)):
        place = steps - 1 - index
        t, bar, before = grid[place], bars[grid[place]], bars_before[place]
        assert t == time
        v, fresh = draw(2, 4, 3, 2, 2, seed=10 + index), draw(2, 4, 3, 2, 2, seed=100 + index)
        scaled, noise = bar**0.5 * theirs - (1 - bar) ** 0.5 * v, bar**0.5 * v + (1 - bar) ** 0.5 * theirs
        spread = ((1 - before) / (1 - bar) * (1 - bar / before)) ** 0.5
        signal = before**0.5 * scales_before[place] / scales[t] * scaled
        theirs = signal + max(1 - before - spread**2, 0) ** 0.5 * noise + spread * fresh
        if index == steps - 1:
            # the last step keeps the scale of the one before there, 1.5 to 3.3 % off the data, and has none here
            theirs = theirs + before**0.5 * (1 - scales[t]) / scales[t] * scaled
        ours = scheduler.step(v, time, after, ours, fresh)
        assert distance(ours, theirs) < 1e-9
        # what the network learns to say
        target = scheduler.target(x0, fresh, time)
        assert distance(target, bar**0.5 * fresh - (1 - bar) ** 0.5 * scales[t] * x0) < 1e-9


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v", "flow", "flow_neg"])
def test_the_algebra_holds_at_any_time(prediction: Any, zero: bool) -> None:
    scheduler = DDIM(**LATENT, prediction=prediction, signal_scale=0.3, signal_scale_steps=37, zero_terminal_snr=zero)
    last = 998.4 if prediction == "epsilon" else 999.0
    times = torch.tensor([-1.0, -0.4, 0.0, 0.3, 17.5, 36.0, 36.7, 250.2, 998.0, last])
    alpha, sigma = scheduler.alpha_sigma(times)
    for factor in (1.0, 0.3):
        torch.testing.assert_close(scheduler.time_of(factor * alpha, factor * sigma), times.double(), rtol=0, atol=1e-7)
    x0, noise = draw(len(times), 3), draw(len(times), 3, seed=1)
    sample = scheduler.add_noise(x0, noise, times)
    found = scheduler.split(scheduler.join(x0, noise, times), sample, times)
    kept = slice(0, -1) if zero else slice(None)
    torch.testing.assert_close(found[0][kept], x0[kept], rtol=1e-7, atol=1e-7)
    # at time -1 a prediction of x0 tells no noise
    torch.testing.assert_close(found[1][1:], noise[1:], rtol=1e-7, atol=1e-7)


def test_an_ancestral_step_of_a_network_that_knows_the_data_leaves_its_mean_on_the_line() -> None:
    """With the data known, the mean of a step is what the same noise would be at the next time, in its part of it."""
    scheduler = DDPM(**LATENT, signal_scale=0.5)
    x0, noise = draw(1, 2, 3), draw(1, 2, 3, seed=1)
    time, after = torch.tensor(300.0), torch.tensor(280.0)
    sample = scheduler.add_noise(x0, noise, time)
    mean = scheduler.step(noise, time, after, sample, torch.zeros_like(noise))
    alpha, sigma = scheduler.alpha_sigma(after)
    whole, bar = (DDPM(**LATENT).alpha_sigma(t)[0] ** 2 for t in (time, after))
    kept = (whole / bar).sqrt() * sigma**2 / (1 - whole).sqrt()
    torch.testing.assert_close(mean, alpha * x0 + kept * noise)


def test_a_scale_of_one_changes_nothing_and_others_are_checked() -> None:
    times = torch.linspace(-1, 999, 60, dtype=torch.float64)
    plain, other = (DDIM(**LATENT, signal_scale_steps=steps).alpha_sigma(times)[0] for steps in (400, 5))
    assert torch.equal(plain, other)
    weights = DDPM(**LATENT, prediction="v", min_snr_gamma=5.0, signal_scale=0.5).loss_weight(times[1:])
    unscaled = DDPM(**LATENT, prediction="v", min_snr_gamma=5.0).loss_weight(times[1:])
    # late, where the data count less than gamma, x0 weighs by the scaled signal's part alone
    torch.testing.assert_close(weights[-1], unscaled[-1])
    for wrong in (0.0, 1.2):
        with pytest.raises(ValueError, match=f"signal_scale={wrong} over 400 steps: the scale lies in"):
            DDIM(signal_scale=wrong)
    with pytest.raises(ValueError, match="signal_scale_steps=1000: fewer than num_train_timesteps=1000"):
        DDIM(signal_scale=0.7, signal_scale_steps=1000)

"""DDIM and DDPM follow diffusers' trajectories, and its step grids, to the rounding of float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, DDIMScheduler, DDPMScheduler
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, Scheduler

SHAPE = (2, 3, 2, 4, 3)
PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2", "sigmoid": "sigmoid"}
RANGE = {"beta_start": 0.00085, "beta_end": 0.012}
# spacing -> number of training steps, sampling steps. diffusers' DDIM steps back by N // steps whatever the grid: the
# next entry of a linspace grid is that only when every step is visited
GRIDS = {"leading": (1000, 10), "trailing": (1000, 10), "linspace": (12, 12)}

each_grid = pytest.mark.parametrize("spacing", GRIDS)
# diffusers' DDIM has no sigmoid
each_beta = pytest.mark.parametrize("beta", [beta for beta in BETAS if beta != "sigmoid"])
each_prediction = pytest.mark.parametrize("prediction", PREDICTIONS)


def alpha_bars(beta: str, number: int, zero_terminal_snr: bool, snr_shift: float) -> np.ndarray:
    """alpha^2 of each training step in float64, from the published formulas."""
    start, end = RANGE["beta_start"], RANGE["beta_end"]
    if beta == "linear":
        betas = np.linspace(start, end, number)
    elif beta == "scaled_linear":
        betas = np.linspace(math.sqrt(start), math.sqrt(end), number) ** 2
    elif beta == "sigmoid":
        betas = start + (end - start) / (1 + np.exp(-np.linspace(-6, 6, number)))
    else:
        bar = [math.cos((i / number + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(number + 1)]
        betas = np.array([min(1 - high / low, 0.999) for low, high in pairwise(bar)])
    bars = np.cumprod(1 - betas)
    # the ratio bar / (1 - bar) is divided by the shift
    ratio = bars / (1 - bars) / snr_shift
    bars = ratio / (1 + ratio)
    if zero_terminal_snr:
        root = np.sqrt(bars)
        bars = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return bars


def oracle(kind: Callable[..., Any], beta: str, spacing: str, prediction: str, **config: Any) -> Any:
    """A scheduler of diffusers whose float32 table is replaced by the same one in float64."""
    number, steps = GRIDS[spacing]
    config = {"clip_sample": False, "rescale_betas_zero_snr": False, **config}
    scheduler = kind(
        num_train_timesteps=number,
        beta_schedule=BETAS[beta],
        timestep_spacing=spacing,
        prediction_type=PREDICTIONS[prediction],
        **RANGE,
        **config,
    )
    zero, shift = config["rescale_betas_zero_snr"], config.get("snr_shift_scale", 1.0)
    exact = torch.from_numpy(alpha_bars(beta, number, zero, shift))
    # float32 running products of up to 1000 factors
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), exact, rtol=1e-4, atol=1e-6)
    scheduler.alphas_cumprod = exact
    scheduler.final_alpha_cumprod = exact.new_ones(()) if config.get("set_alpha_to_one", True) else exact[0]
    scheduler.set_timesteps(steps)
    return scheduler


def ours(name: str, beta: str, spacing: str, prediction: str, **knobs: Any) -> Scheduler:
    knobs = {"beta_schedule": beta, "timestep_spacing": spacing, "prediction": prediction, **RANGE, **knobs}
    return SCHEDULERS.build(name, num_train_timesteps=GRIDS[spacing][0], **knobs)


def model(sample: Tensor, time: Tensor) -> Tensor:
    """Some smooth network: what it predicts doesn't matter, that it depends on all it is given does."""
    return 0.3 * sample + 0.2 * torch.sin(time.double() / 100) + 0.5 * torch.tanh(sample.flip(-1))


def draws(count: int) -> list[Tensor]:
    source = Generator().manual_seed(7)
    return [torch.randn(SHAPE, generator=source, dtype=torch.float64) for _ in range(count)]


def check_walk(scheduler: Scheduler, reference: Any, step: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Both walk from the same noise with the same draws: all states agree."""
    times = scheduler.timesteps(len(reference.timesteps))
    assert times[:-1].tolist() == reference.timesteps.tolist()
    start, *fresh = draws(len(times))
    sample, expected = start, start
    for (time, next_time), noise in zip(pairwise(times), fresh, strict=True):
        sample = scheduler.step(model(sample, time), time, next_time, sample, noise)
        expected = step(model(expected, time), time.long(), expected, noise)
        # 1000 products and a few operations a step in float64: 1e-9 leaves three digits of room, and diffusers'
        # clamp of a variance 0 to 1e-20 stays below it
        assert ((sample - expected).abs().max() / expected.abs().max()).item() < 1e-9


@each_grid
@pytest.mark.parametrize("beta", ["scaled_linear", "cosine"])
@each_prediction
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim(spacing: str, beta: str, prediction: str, eta: float) -> None:
    reference = oracle(DDIMScheduler, beta, spacing, prediction)

    def step(predicted: Tensor, time: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
        given = {"eta": eta, "variance_noise": noise} if eta else {}
        return reference.step(predicted, time, sample, **given).prev_sample

    check_walk(ours("ddim", beta, spacing, prediction, eta=eta), reference, step)


@pytest.mark.parametrize("eta", [0.0, 0.4])
@pytest.mark.parametrize("offset", [0, 1])
def test_ddim_as_published_video_models_set_it(eta: float, offset: int) -> None:
    config = {"set_alpha_to_one": False, "steps_offset": offset}
    reference = oracle(DDIMScheduler, "scaled_linear", "leading", "epsilon", **config)

    def step(predicted: Tensor, time: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
        given = {"eta": eta, "variance_noise": noise} if eta else {}
        return reference.step(predicted, time, sample, **given).prev_sample

    check_walk(ours("ddim", "scaled_linear", "leading", "epsilon", eta=eta, **config), reference, step)


@each_beta
@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_ddim_from_noise_without_signal(beta: str, prediction: str) -> None:
    reference = oracle(DDIMScheduler, beta, "trailing", prediction, rescale_betas_zero_snr=True)
    scheduler = ours("ddim", beta, "trailing", prediction, zero_terminal_snr=True)
    assert scheduler.alpha_sigma(scheduler.timesteps(10)[0]) == (0, 1)
    check_walk(scheduler, reference, lambda p, t, x, noise: reference.step(p, t, x).prev_sample)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_ddim_as_cogvideox_sets_it(shift: float) -> None:
    reference = oracle(
        CogVideoXDDIMScheduler,
        "scaled_linear",
        "trailing",
        "v",
        snr_shift_scale=shift,
        rescale_betas_zero_snr=True,
    )
    scheduler = ours("ddim", "scaled_linear", "trailing", "v", snr_shift=shift, zero_terminal_snr=True)
    check_walk(scheduler, reference, lambda p, t, x, noise: reference.step(p, t, x).prev_sample)


# diffusers adds noise to the final result unless the last time is 0, algorithm 2 never does: visible where the grid
# isn't down to 0 and the variance isn't that of the reversal, which is 0 there
VARIANCES = [("leading", "fixed_small"), ("leading", "fixed_large"), ("trailing", "fixed_small")]
VARIANCES += [("linspace", "fixed_small"), ("linspace", "fixed_large")]


@pytest.mark.parametrize(("spacing", "variance"), VARIANCES)
@pytest.mark.parametrize("beta", ["linear", "cosine", "sigmoid"])
@each_prediction
@pytest.mark.parametrize("clip", [0.0, 1.5])
def test_ddpm(spacing: str, variance: str, beta: str, prediction: str, clip: float) -> None:
    given = {"clip_sample": clip > 0, "clip_sample_range": clip, "variance_type": variance}
    reference = oracle(DDPMScheduler, beta, spacing, prediction, **given)
    source = Generator().manual_seed(7)
    torch.randn(SHAPE, generator=source, dtype=torch.float64)

    def step(predicted: Tensor, time: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
        # its own draws, from a generator in the state of the one behind `noise`
        return reference.step(predicted, time, sample, generator=source).prev_sample

    check_walk(ours("ddpm", beta, spacing, prediction, variance=variance, clip_x0=clip), reference, step)


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_ddpm_from_noise_without_signal(prediction: str) -> None:
    reference = oracle(DDPMScheduler, "scaled_linear", "trailing", prediction, rescale_betas_zero_snr=True)
    source = Generator().manual_seed(7)
    torch.randn(SHAPE, generator=source, dtype=torch.float64)
    scheduler = ours("ddpm", "scaled_linear", "trailing", prediction, zero_terminal_snr=True)
    check_walk(scheduler, reference, lambda p, t, x, noise: reference.step(p, t, x, generator=source).prev_sample)


@each_grid
def test_grids_of_all_numbers_of_steps(spacing: str) -> None:
    scheduler = SCHEDULERS.build("ddim", timestep_spacing=spacing, num_train_timesteps=300)
    reference = DDIMScheduler(timestep_spacing=spacing, num_train_timesteps=300)
    compared = 0
    for steps in range(2, 301):
        reference.set_timesteps(steps)
        expected = reference.timesteps.tolist()
        # rounding makes numpy's arange, and so diffusers' trailing grid, an entry too long for some numbers of steps
        if len(expected) == steps:
            compared += 1
            assert scheduler.timesteps(steps)[:-1].tolist() == expected
    assert compared > 270

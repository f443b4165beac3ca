"""What DDPM and DDIM share beyond the grids: times between the steps, loss weights, refusals; and DDPM's statistics."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor

from videogen.schedulers.ddim import DDIM
from videogen.schedulers.ddpm import DDPM

PREDICTIONS = ["x0", "epsilon", "v", "flow", "flow_neg"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("zero_terminal_snr", [False, True])
@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("number", [3, 10, 1000])
def test_times_between_the_steps(number: int, beta_schedule: str, zero_terminal_snr: bool) -> None:
    scheduler = DDIM(num_train_timesteps=number, beta_schedule=beta_schedule, zero_terminal_snr=zero_terminal_snr)
    every = torch.linspace(-1, number - 1, 8 * number + 1, dtype=torch.float64)
    alpha, sigma = scheduler.alpha_sigma(every)
    assert (alpha[0], sigma[0]) == (1, 0)
    assert ((alpha[-1], sigma[-1]) == (0, 1)) == zero_terminal_snr
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(alpha))
    assert (alpha[1:] < alpha[:-1]).all()
    assert (sigma[1:] > sigma[:-1]).all()
    torch.testing.assert_close(scheduler.time_of(alpha, sigma), every, rtol=1e-8, atol=1e-8)


def test_the_log_ratio_is_linear_between_two_steps_and_the_vanishing_ratio_at_the_ends() -> None:
    scheduler = DDIM(num_train_timesteps=10, zero_terminal_snr=True)

    def ratio(*at: float) -> Tensor:
        alpha, sigma = scheduler.alpha_sigma(times(*at))
        return alpha / sigma

    torch.testing.assert_close(ratio(3.25).log(), 0.75 * ratio(3).log() + 0.25 * ratio(4).log())
    torch.testing.assert_close(1 / ratio(-0.75), 0.25 / ratio(0))
    torch.testing.assert_close(ratio(8.75), 0.25 * ratio(8))


def test_noise_beyond_the_last_step_is_the_last_step() -> None:
    scheduler = DDIM()
    assert scheduler.time_of(times(0.0, 1e-9), times(1.0, 1.0)).tolist() == [999, 999]
    assert DDIM(zero_terminal_snr=True).time_of(times(0.0), times(3.0)).item() == 999
    assert scheduler.time_of(times(2.0), times(0.0)).item() == -1
    # a table of sigma / alpha that isn't contiguous, as a transposed (T, B) is
    alpha, sigma = scheduler.alpha_sigma(torch.arange(6, dtype=torch.float64).reshape(2, 3))
    assert torch.equal(scheduler.time_of(alpha.T, sigma.T).round(), times(0, 1, 2, 3, 4, 5).reshape(2, 3).T)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_weighs_the_error_of_x0(prediction: str) -> None:
    scheduler = DDPM(prediction=prediction, min_snr_gamma=5.0)
    sample, first, second = (draw(1, 4, seed=seed) for seed in range(3))
    for time in times(0, 30, 200, 500, 999):
        alpha, sigma = scheduler.alpha_sigma(time)
        snr = (alpha / sigma).square()
        x0_error = scheduler.split(first, sample, time)[0] - scheduler.split(second, sample, time)[0]
        weighted = scheduler.loss_weight(time) * (first - second).square()
        # a difference of two x0 loses digits where alpha is small or sigma is
        torch.testing.assert_close(weighted, snr.clamp(max=5) * x0_error.square(), rtol=1e-6, atol=1e-12)
    assert DDPM(prediction=prediction).loss_weight(times(0, 999)).tolist() == [1, 1]


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_finite_at_both_ends(prediction: str) -> None:
    scheduler = DDPM(prediction=prediction, min_snr_gamma=5.0, zero_terminal_snr=True)
    limits = {"x0": [5, 0], "epsilon": [0, 1], "v": [0, 0], "flow": [0, 0], "flow_neg": [0, 0]}
    assert scheduler.loss_weight(times(-1, 999)).tolist() == limits[prediction]


def test_training_times_are_all_the_steps() -> None:
    drawn = DDPM(num_train_timesteps=7).sample_times(2000, Generator().manual_seed(0))
    assert drawn.dtype == torch.float64
    counts = torch.bincount(drawn.long(), minlength=7)
    # 2000 / 7 each, within five standard deviations of about 16
    assert len(counts) == 7
    assert ((counts - 2000 / 7).abs() < 80).all()
    # of a normal variable on a schedule of 7 steps: the middle one holds the sigmoids from 3/7 to 4/7
    drawn = DDPM(num_train_timesteps=7, sampling="logit_normal").sample_times(2000, Generator().manual_seed(0))
    counts = torch.bincount(drawn.long(), minlength=7)
    ends = torch.tensor([3 / 7, 4 / 7], dtype=torch.float64).logit()
    share = torch.special.ndtr(ends).diff().item()
    assert abs(counts[3].item() - 2000 * share) < 100
    assert counts.argmax() == 3


def test_an_epsilon_without_signal_is_refused_with_a_remedy() -> None:
    scheduler = DDIM(zero_terminal_snr=True, prediction="epsilon")
    with pytest.raises(ValueError, match=r"alpha=0 doesn't tell x0.*predict v, flow or x0"):
        scheduler.split(draw(2, 3), draw(2, 3), times(10, 999))
    x0, _ = scheduler.split(draw(2, 3), draw(2, 3), times(10, 998))
    assert torch.isfinite(x0).all()


def test_ddim_walks_towards_noise_and_back_where_it_draws_nothing() -> None:
    scheduler, sample, predicted = DDIM(prediction="v"), draw(2, 3), draw(2, 3, seed=1)
    low, high = times(100, 400)
    up = scheduler.step(predicted, low, high, sample)
    x0, noise = scheduler.split(predicted, sample, low)
    torch.testing.assert_close(scheduler.step(scheduler.join(x0, noise, high), high, low, up), sample)
    for drawing in (DDIM(eta=0.5), DDPM()):
        with pytest.raises(ValueError, match="doesn't lead towards data"):
            drawing.step(predicted, low, high, sample, draw(2, 3))


def test_ddpm_keeps_the_result_free_of_noise() -> None:
    scheduler = DDPM(variance="fixed_large", prediction="x0")
    x0 = draw(2, 3)
    torch.testing.assert_close(scheduler.step(x0, times(19)[0], times(-1)[0], draw(2, 3, seed=1)), x0)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm_draws_from_the_data_distribution(variance: str) -> None:
    mean, spread, count = 0.7, 0.5, 10_000
    scheduler = DDPM(variance=variance, prediction="x0")
    fresh = Generator().manual_seed(0)
    sample = torch.randn((count, 1), generator=fresh, dtype=torch.float64)
    for time, next_time in pairwise(scheduler.timesteps(300)):
        alpha, sigma = scheduler.alpha_sigma(time)
        # the expectation of normal data given the sample
        x0 = mean + alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * (sample - alpha * mean)
        noise = torch.randn(sample.shape, generator=fresh, dtype=torch.float64)
        sample = scheduler.step(x0, time, next_time, sample, noise)
    # four standard errors of each, and 1 % that 300 steps may leave in the spread
    assert abs(sample.mean().item() - mean) < 4 * spread / count**0.5
    assert abs(sample.std().item() / spread - 1) < 4 / (2 * count) ** 0.5 + 0.01


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_train_timesteps": 2}, "num_train_timesteps=2: at least 3"),
        ({"beta_start": 0.02, "beta_end": 0.01}, "betas from 0.02 to 0.01"),
        ({"beta_schedule": "squaredcos"}, "beta_schedule='squaredcos' is unknown.*cosine"),
        ({"timestep_spacing": "trail"}, "did you mean 'trailing'"),
        ({"steps_offset": 1}, "steps_offset=1 with timestep_spacing='trailing'.*set it to 0"),
        ({"min_snr_gamma": -1.0}, "min_snr_gamma=-1.0: at least 0"),
        ({"prediction": "velocity"}, "prediction='velocity' is unknown"),
        ({"eta": 1.5}, r"eta=1.5 lies outside \[0, 1\]"),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDIM(**knobs)


def test_steps_and_times_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"clip_x0=-1\.0"):
        DDPM(clip_x0=-1.0)
    with pytest.raises(ValueError, match="variance='fixed' is unknown"):
        DDPM(variance="fixed")
    with pytest.raises(ValueError, match="steps=1001: from 1 to num_train_timesteps=1000"):
        DDIM().timesteps(1001)
    with pytest.raises(ValueError, match="starts at time 1000, beyond the last, 999"):
        DDIM(timestep_spacing="leading", steps_offset=1).timesteps(1000)
    for time in (-1.5, 1000.0):
        with pytest.raises(ValueError, match=r"lies outside \[-1, 999\]"):
            DDIM().alpha_sigma(torch.tensor(time))

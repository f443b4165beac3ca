"""What every registered scheduler keeps to: a new one is held to it by being registered."""

from __future__ import annotations

import typing
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, Scheduler

NAMES = SCHEDULERS.names()
SHAPE = (3, 2, 5, 4, 3)
# shapes of a timestep: one for all, per sample, per frame
TIME_SHAPES = [(), (3,), (3, 5)]


def predictions(name: str) -> list[str | None]:
    """The prediction types that a scheduler can be set to; None where it has no such knob."""
    kinds = [list(typing.get_args(knob.type)) for knob in SCHEDULERS.knobs(name) if knob.name == "prediction"]
    return kinds[0] if kinds else [None]


CASES = [(name, prediction) for name in NAMES for prediction in predictions(name)]
each_scheduler = pytest.mark.parametrize("name", NAMES)
each_prediction = pytest.mark.parametrize(("name", "prediction"), CASES)
each_time_shape = pytest.mark.parametrize("shape", TIME_SHAPES, ids=["scalar", "sample", "frame"])


def build(name: str, prediction: str | None = None) -> Scheduler:
    return SCHEDULERS.build(name) if prediction is None else SCHEDULERS.build(name, prediction=prediction)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inner_times(scheduler: Scheduler, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random times, whole or not, a little inside of the schedule's ends."""
    times = scheduler.timesteps(10)
    part = torch.rand(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)
    return times[-1] + (times[0] - times[-1]) * (0.02 + 0.96 * part)


def full(values: Tensor) -> Tensor:
    """Values (), (B,) or (B, T) repeated to SHAPE, without the code under test."""
    rows = [torch.stack([values[(b, t)[: values.ndim]] for t in range(SHAPE[2])]) for b in range(SHAPE[0])]
    return torch.stack(rows)[:, None, :, None, None].expand(SHAPE)


@each_scheduler
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_the_walk_descends_from_the_noisiest_time_to_data(name: str, steps: int) -> None:
    scheduler = build(name)
    times = scheduler.timesteps(steps)
    assert (times.shape, times.dtype) == ((steps + 1,), torch.float64)
    assert (times[1:] < times[:-1]).all()
    alpha, sigma = scheduler.alpha_sigma(times)
    assert torch.isfinite(alpha).all()
    assert (alpha >= 0).all()
    assert (sigma[1:] / (alpha[1:] + sigma[1:]) < sigma[:-1] / (alpha[:-1] + sigma[:-1])).all()
    assert sigma[-1] < 0.05
    with pytest.raises(ValueError, match="steps=0"):
        scheduler.timesteps(0)


@each_scheduler
@each_time_shape
def test_time_of_inverts_alpha_sigma(name: str, shape: tuple[int, ...]) -> None:
    scheduler = build(name)
    for times in [inner_times(scheduler, shape, seed) for seed in range(20)]:
        alpha, sigma = scheduler.alpha_sigma(times)
        assert alpha.shape == sigma.shape == times.shape
        # the scale of a schedule carries no noise level
        for scale in (1.0, 0.3, 50.0):
            torch.testing.assert_close(scheduler.time_of(scale * alpha, scale * sigma), times, rtol=1e-9, atol=1e-9)


@each_scheduler
def test_time_of_is_monotone_and_ends_at_the_ends(name: str) -> None:
    scheduler = build(name)
    noise_first = torch.linspace(1, 0, 500, dtype=torch.float64)
    times = scheduler.time_of(1 - noise_first, noise_first)
    assert (times[1:] <= times[:-1]).all()
    alpha, sigma = scheduler.alpha_sigma(times)
    assert torch.isfinite(alpha + sigma).all()
    assert sigma[-1] <= 0.01 * alpha[-1]
    with pytest.raises(ValueError, match="no noise level"):
        scheduler.time_of(torch.tensor(0.0), torch.tensor(0.0))


@each_scheduler
@each_time_shape
def test_add_noise_takes_one_time_or_one_a_sample_or_one_a_frame(name: str, shape: tuple[int, ...]) -> None:
    scheduler = build(name)
    x0, noise, times = draw(*SHAPE), draw(*SHAPE, seed=1), inner_times(scheduler, shape)
    alpha, sigma = (full(level) for level in scheduler.alpha_sigma(times))
    torch.testing.assert_close(scheduler.add_noise(x0, noise, times), alpha * x0 + sigma * noise)


@each_scheduler
@pytest.mark.parametrize("shape", [(2,), (3, 4), (1,), (3, 1), (3, 5, 4)])
def test_a_timestep_that_fits_no_axis_is_refused(name: str, shape: tuple[int, ...]) -> None:
    scheduler = build(name)
    with pytest.raises(ValueError, match="doesn't fit latents of shape"):
        scheduler.add_noise(draw(*SHAPE), draw(*SHAPE), inner_times(scheduler, shape))


@each_prediction
@each_time_shape
def test_the_target_is_the_one_that_its_name_says(name: str, prediction: str | None, shape: tuple[int, ...]) -> None:
    scheduler = build(name, prediction)
    x0, noise, times = draw(*SHAPE), draw(*SHAPE, seed=1), inner_times(scheduler, shape)
    alpha, sigma = (full(level) for level in scheduler.alpha_sigma(times))
    named = {"x0": x0, "epsilon": noise, "v": alpha * noise - sigma * x0, "flow": noise - x0, "flow_neg": x0 - noise}
    target = scheduler.target(x0, noise, times)
    torch.testing.assert_close(target, named[scheduler.prediction])
    torch.testing.assert_close(target, scheduler.join(x0, noise, times))


@each_prediction
@each_time_shape
@pytest.mark.parametrize("seed", range(3))
def test_split_inverts_join(name: str, prediction: str | None, shape: tuple[int, ...], seed: int) -> None:
    scheduler = build(name, prediction)
    x0, noise, times = draw(*SHAPE, seed=seed), draw(*SHAPE, seed=seed + 100), inner_times(scheduler, shape, seed)
    sample = scheduler.add_noise(x0, noise, times)
    for found, given in zip(scheduler.split(scheduler.join(x0, noise, times), sample, times), (x0, noise), strict=True):
        torch.testing.assert_close(found, given, rtol=1e-9, atol=1e-9)
    predicted = draw(*SHAPE, seed=seed + 200)
    again = scheduler.join(*scheduler.split(predicted, sample, times), times)
    torch.testing.assert_close(again, predicted, rtol=1e-9, atol=1e-9)


@each_scheduler
def test_training_times_come_from_the_generator_alone(name: str) -> None:
    scheduler = build(name)
    first, second, other = (scheduler.sample_times(64, Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert first.shape == (64,)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    alpha, sigma = scheduler.alpha_sigma(scheduler.sample_times(4096, Generator().manual_seed(0)))
    # both clean and noisy times are trained
    assert 0.05 < (alpha > sigma).double().mean() < 0.95
    assert scheduler.sample_times(5).shape == (5,)


@each_prediction
@each_time_shape
def test_loss_weights_are_positive_and_finite(name: str, prediction: str | None, shape: tuple[int, ...]) -> None:
    scheduler = build(name, prediction)
    times = inner_times(scheduler, shape)
    weight = scheduler.loss_weight(times)
    assert weight.shape == times.shape
    assert ((weight > 0) & (weight < torch.inf)).all()


@each_prediction
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_latents_keep_their_dtype(name: str, prediction: str | None, dtype: torch.dtype) -> None:
    scheduler = build(name, prediction)
    x0, noise, fresh = (draw(*SHAPE, seed=seed, dtype=dtype) for seed in range(3))
    time, next_time = scheduler.timesteps(6)[2:4]
    sample = scheduler.add_noise(x0, noise, time)
    predicted = scheduler.target(x0, noise, time)
    stepped = scheduler.step(predicted, time, next_time, sample, fresh)
    results = [sample, predicted, *scheduler.split(predicted, sample, time), stepped]
    assert {result.dtype for result in results} == {dtype}
    # half precision holds the values, never the arithmetic: rounding the exact result once is all that is lost
    exact = scheduler.add_noise(x0.double(), noise.double(), time)
    torch.testing.assert_close(sample, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@each_prediction
@pytest.mark.parametrize("steps", [1, 4, 25])
def test_a_network_that_knows_the_data_ends_on_it(name: str, prediction: str | None, steps: int) -> None:
    scheduler = build(name, prediction)
    x0, sample = draw(*SHAPE), draw(*SHAPE, seed=1)
    # strictly below the noisiest time: where alpha is 0 an epsilon tells no x0
    times = scheduler.timesteps(steps + 1)[1:]
    sample = scheduler.add_noise(x0, sample, times[0])
    for index, (time, next_time) in enumerate(pairwise(times)):
        alpha, sigma = scheduler.alpha_sigma(time)
        predicted = scheduler.join(x0, (sample - alpha * x0) / sigma, time)
        sample = scheduler.step(predicted, time, next_time, sample, draw(*SHAPE, seed=10 + index))
    alpha, sigma = scheduler.alpha_sigma(times[-1])
    torch.testing.assert_close(sample, alpha * x0, rtol=0, atol=6 * sigma.item() + 1e-9)


@each_scheduler
def test_a_sampler_that_draws_says_so(name: str) -> None:
    scheduler = build(name)
    given = (draw(*SHAPE), *scheduler.timesteps(6)[2:4], draw(*SHAPE, seed=1))
    if not scheduler.stochastic:
        assert torch.isfinite(scheduler.step(*given)).all()
        return
    with pytest.raises(ValueError, match="needs fresh noise"):
        scheduler.step(*given)
    one, two = (scheduler.step(*given, draw(*SHAPE, seed=seed)) for seed in (2, 3))
    assert not torch.equal(one, two)

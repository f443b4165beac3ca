"""What every registered noise schedule and scheduler keeps to: a new one is held to it by being registered."""

from __future__ import annotations

import typing

import pytest
import torch
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, NoiseSchedule, Objective, Scheduler
from videogen.schedulers.ddpm import DDPM
from videogen.schedulers.edm import EDM
from videogen.schedulers.rectified_flow import RectifiedFlow

# those that are given no noise schedule bring their own
SCHEDULES = [name for name in SCHEDULERS.names() if not SCHEDULERS.describe(name).wiring]
SHAPE = (3, 2, 5, 4, 3)
# shapes of a timestep: one for all, per sample, per frame
TIME_SHAPES = [(), (3,), (3, 5)]


def predictions(name: str) -> list[str | None]:
    """The prediction types that a scheduler can be set to; None where it has no such knob."""
    kinds = [list(typing.get_args(knob.type)) for knob in SCHEDULERS.knobs(name) if knob.name == "prediction"]
    return kinds[0] if kinds else [None]


CASES = [(name, prediction) for name in SCHEDULES for prediction in predictions(name)]
NOISES = {
    "flow": lambda prediction: RectifiedFlow(prediction=prediction),
    "chain": lambda prediction: DDPM(prediction=prediction),
    "chain to pure noise": lambda prediction: DDPM(prediction=prediction, zero_terminal_snr=True),
    "edm": lambda prediction: EDM(prediction=prediction),
}
each_schedule = pytest.mark.parametrize("name", SCHEDULES)


def walks(*noises: str) -> pytest.MarkDecorator:
    """Every scheduler on these noise schedules, or on its own; quick on the first alone."""
    return pytest.mark.parametrize(
        ("name", "noise"),
        [
            pytest.param(name, noise, marks=[pytest.mark.slow] if noise in noises[1:] else [])
            for name in SCHEDULERS.names()
            for noise in (["own"] if name in SCHEDULES else noises)
        ],
    )


each_walk, each_walk_of_all = walks("flow", "chain"), walks(*NOISES)
each_prediction = pytest.mark.parametrize(("name", "prediction"), CASES)
each_time_shape = pytest.mark.parametrize("shape", TIME_SHAPES, ids=["scalar", "sample", "frame"])


def build(name: str, prediction: str | None = None) -> Objective:
    schedule = SCHEDULERS.build(name) if prediction is None else SCHEDULERS.build(name, prediction=prediction)
    return typing.cast("Objective", schedule)


def walker(name: str, noise: str, prediction: str = "v", **knobs: typing.Any) -> Scheduler:
    """A scheduler on a noise schedule, or on its own."""
    if noise == "own":
        return SCHEDULERS.build(name, prediction=prediction, **knobs)
    return SCHEDULERS.build(name, NOISES[noise](prediction), **knobs)


def draws(seed: int = 0) -> typing.Callable[[], Tensor]:
    source = Generator().manual_seed(1000 + seed)
    return lambda: torch.randn(SHAPE, generator=source, dtype=torch.float64)


def knowing(noise: NoiseSchedule, x0: Tensor) -> typing.Callable[[Tensor, Tensor], Tensor]:
    """A network that knows the clean latents."""
    return lambda x, time: noise.join(x0, noise.noise_of(x0, x, time), time)


def some_network(noise: NoiseSchedule) -> typing.Callable[[Tensor, Tensor], Tensor]:
    """One that depends on x and on the noise level, and mixes no frames."""

    def network(x: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = (full(level) for level in noise.alpha_sigma(time))
        x0 = 0.5 * torch.tanh(x.flip(-1)) + 0.1 * sigma + 0.2 * alpha * x
        return noise.join(x0.to(x.dtype), noise.noise_of(x0.to(x.dtype), x, time), time)

    return network


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def inner_times(schedule: Objective, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random times, whole or not, a little inside of the schedule's ends."""
    times = schedule.grid(10, "trailing")
    part = torch.rand(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)
    return times[-2] + (times[0] - times[-2]) * (0.02 + 0.96 * part)


def full(values: Tensor) -> Tensor:
    """Values (), (B,) or (B, T) repeated to SHAPE, without the code under test."""
    while values.ndim < 2:
        values = values[..., None]
    return values[:, None, :, None, None].expand(SHAPE)


@each_walk_of_all
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_the_walk_descends_from_the_noisiest_time_to_data(name: str, noise: str, steps: int) -> None:
    scheduler = walker(name, noise)
    times = scheduler.timesteps(steps)
    assert (times.shape, times.dtype) == ((steps + 1,), torch.float64)
    assert (times[1:] < times[:-1]).all()
    alpha, sigma = scheduler.noise.alpha_sigma(times)
    assert torch.isfinite(alpha).all()
    assert (alpha >= 0).all()
    assert (sigma[1:] / (alpha[1:] + sigma[1:]) < sigma[:-1] / (alpha[:-1] + sigma[:-1])).all()
    assert sigma[0] > 0.99 * alpha[0]
    # the first training step at most is left
    assert sigma[-1] < 0.05
    with pytest.raises(ValueError, match="steps=0"):
        scheduler.timesteps(0)


@each_schedule
@each_time_shape
def test_time_of_inverts_alpha_sigma(name: str, shape: tuple[int, ...]) -> None:
    scheduler = build(name)
    for times in [inner_times(scheduler, shape, seed) for seed in range(20)]:
        alpha, sigma = scheduler.alpha_sigma(times)
        assert alpha.shape == sigma.shape == times.shape
        # the scale of a schedule carries no noise level
        for scale in (1.0, 0.3, 50.0):
            torch.testing.assert_close(scheduler.time_of(scale * alpha, scale * sigma), times, rtol=1e-9, atol=1e-9)


@each_schedule
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


@each_schedule
@each_time_shape
def test_add_noise_takes_one_time_or_one_a_sample_or_one_a_frame(name: str, shape: tuple[int, ...]) -> None:
    scheduler = build(name)
    x0, noise, times = draw(*SHAPE), draw(*SHAPE, seed=1), inner_times(scheduler, shape)
    alpha, sigma = (full(level) for level in scheduler.alpha_sigma(times))
    torch.testing.assert_close(scheduler.add_noise(x0, noise, times), alpha * x0 + sigma * noise)


@each_schedule
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
    v = alpha * noise - sigma * x0
    named = {"x0": x0, "epsilon": noise, "v": v, "v_neg": -v, "flow": noise - x0, "flow_neg": x0 - noise}
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


@each_schedule
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
def test_latents_of_a_schedule_keep_their_dtype(name: str, prediction: str | None, dtype: torch.dtype) -> None:
    schedule = build(name, prediction)
    x0, noise = (draw(*SHAPE, seed=seed, dtype=dtype) for seed in range(2))
    time = schedule.grid(6, "trailing")[2]
    sample = schedule.add_noise(x0, noise, time)
    predicted = schedule.target(x0, noise, time)
    results = [sample, predicted, *schedule.split(predicted, sample, time), schedule.noise_of(x0, sample, time)]
    assert {result.dtype for result in results} == {dtype}
    # half precision holds the values, never the arithmetic: rounding the exact result once is all that is lost
    exact = schedule.add_noise(x0.double(), noise.double(), time)
    torch.testing.assert_close(sample, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@each_walk
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_walk_keeps_the_dtype_of_its_sample(name: str, noise: str, dtype: torch.dtype) -> None:
    scheduler = walker(name, noise)
    times, draw_one = scheduler.timesteps(6)[1:], draws()
    start = scheduler.noise.add_noise(draw(*SHAPE), draw(*SHAPE, seed=1), times[0])
    asked: list[torch.dtype] = []

    def network(x: Tensor, time: Tensor) -> Tensor:
        asked.append(x.dtype)
        return some_network(scheduler.noise)(x.double(), time).to(x.dtype)

    rounded = list(scheduler.walk(network, start.to(dtype), times, lambda: draw_one().to(dtype)))
    assert {x.dtype for x in rounded} == set(asked) == {dtype}
    exact = list(scheduler.walk(some_network(scheduler.noise), start, times, draws()))
    # what is held and predicted is rounded in each of 5 steps, and the network triples a difference at most
    torch.testing.assert_close(rounded[-1].double(), exact[-1], rtol=0, atol=100 * torch.finfo(dtype).eps)


@each_walk_of_all
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_network_that_knows_the_data_ends_on_it(name: str, noise: str, steps: int) -> None:
    scheduler = walker(name, noise)
    x0, times = draw(*SHAPE), scheduler.timesteps(steps)
    start = scheduler.noise.add_noise(x0, draw(*SHAPE, seed=1), times[0])
    *_, last = scheduler.walk(knowing(scheduler.noise, x0), start, times, draws())
    alpha, sigma = scheduler.noise.alpha_sigma(times[-1])
    # a chain that ends a step before data keeps that step's noise; lcm's boundary keeps a thousandth of the sample
    torch.testing.assert_close(last, alpha * x0, rtol=0, atol=6 * sigma.item() + (1e-2 if name == "lcm" else 1e-9))


@each_walk
def test_equal_networks_in_any_prediction_give_equal_walks(name: str, noise: str) -> None:
    ends = []
    for prediction in ("x0", "epsilon", "v", "v_neg", "flow", "flow_neg"):
        scheduler = walker(name, noise, prediction)
        # below pure noise, where an epsilon tells no x0
        times = scheduler.timesteps(8)[1:]
        start = (scheduler.noise.alpha_sigma(times[0])[1] * draw(*SHAPE)).double()
        ends.append(list(scheduler.walk(some_network(scheduler.noise), start, times, draws()))[-1])
    for end in ends[1:]:
        # an epsilon at high noise loses three digits of x0
        torch.testing.assert_close(end, ends[0], rtol=1e-9, atol=1e-9)


@each_walk
def test_a_walk_draws_if_it_says_so_and_then_from_what_it_is_given_alone(name: str, noise: str) -> None:
    random = {"ddim": {"eta": 0.5}, "dpm_solver": {"kind": "sde"}, "edm": {"churn": 2.0}}.get(name, {})
    for scheduler in (walker(name, noise), walker(name, noise, **random)):
        (first, count), (again, _), (other, _) = (counted_walk(scheduler, seed) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert torch.equal(first, other) != scheduler.stochastic
        assert bool(count) == scheduler.stochastic
        assert count <= 6


def counted_walk(scheduler: Scheduler, seed: int) -> tuple[Tensor, int]:
    """The end of a walk of six steps, and how often it drew."""
    source, count = draws(seed), 0

    def draw_one() -> Tensor:
        nonlocal count
        count += 1
        return source()

    *_, last = scheduler.walk(some_network(scheduler.noise), draw(*SHAPE), scheduler.timesteps(6), draw_one)
    return last, count


@each_walk
def test_two_walks_of_one_scheduler_never_meet(name: str, noise: str) -> None:
    scheduler = walker(name, noise)
    times = scheduler.timesteps(7)
    one, two = (
        lambda seed=seed: scheduler.walk(some_network(scheduler.noise), draw(*SHAPE, seed=seed), times, draws(seed))
        for seed in (1, 2)
    )
    together = list(zip(one(), two(), strict=True))
    for alone, both in ((list(one()), 0), (list(two()), 1)):
        assert all(torch.equal(x, pair[both]) for x, pair in zip(alone, together, strict=True))


@each_walk
def test_frames_at_times_of_their_own_walk_as_if_alone(name: str, noise: str) -> None:
    random = {"dpm_solver": {"order": 3}, "unipc": {"order": 3}}.get(name, {})
    scheduler = walker(name, noise, **random)
    late, early = scheduler.timesteps(9), scheduler.timesteps(9)[-1].expand(10)
    frames = torch.stack([late, early, late, early, late], dim=-1)
    times = frames[:, None].expand(10, SHAPE[0], SHAPE[2])
    start = draw(*SHAPE)
    mixed = list(scheduler.walk(some_network(scheduler.noise), start, times[1:], draws()))
    alone = list(scheduler.walk(some_network(scheduler.noise), start, late[1:], draws()))
    for x, y in zip(mixed, alone, strict=True):
        torch.testing.assert_close(x[:, :, ::2], y[:, :, ::2], rtol=1e-9, atol=1e-9)
    # frames that are clean from the start stay what they are
    if float(scheduler.noise.alpha_sigma(early[0])[1]) == 0:
        torch.testing.assert_close(mixed[-1][:, :, 1::2], start[:, :, 1::2], rtol=0, atol=1e-12)

"""Rectified flow against diffusers' Euler sampler and against its formulas."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Generator, Tensor

from videogen.config import build_part, compose
from videogen.schedulers.rectified_flow import RectifiedFlow

SHAPE = (2, 3, 2, 4, 3)


def draw(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=Generator().manual_seed(seed), dtype=torch.float64)


def model(sample: Tensor, time: Tensor) -> Tensor:
    return 0.3 * sample + 0.2 * torch.sin(10 * time) + 0.5 * torch.tanh(sample.flip(-1))


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 8, 30])
def test_the_trajectory_is_that_of_diffusers(shift: float, steps: int) -> None:
    scheduler = RectifiedFlow(shift=shift)
    reference = FlowMatchEulerDiscreteScheduler(shift=shift)
    # its own grid ends at 1 / 1000, and shifts that end twice: it is given the plain grid, which it shifts
    reference.set_timesteps(sigmas=torch.linspace(1, 0, steps + 1)[:-1].tolist())
    times = scheduler.timesteps(steps)
    # the grid of diffusers is float32, and its step rounds the sample to float32
    torch.testing.assert_close(times, reference.sigmas.double(), rtol=1e-6, atol=1e-7)
    sample = expected = draw(0)
    for (time, next_time), its_time in zip(pairwise(times), reference.timesteps, strict=True):
        sample = scheduler.step(model(sample, time), time, next_time, sample)
        expected = reference.step(model(expected, its_time / 1000), its_time, expected).prev_sample
        assert ((sample - expected).abs().max() / expected.abs().max()).item() <= 1e-6


def test_a_step_is_one_of_euler() -> None:
    scheduler, sample, flow = RectifiedFlow(), draw(0), draw(1)
    time, next_time = torch.tensor(0.7), torch.tensor(0.45)
    stepped = scheduler.step(flow, time, next_time, sample)
    torch.testing.assert_close(stepped, sample + (next_time.double() - time.double()) * flow)
    # towards noise as well, so that a video can be inverted
    torch.testing.assert_close(scheduler.step(flow, next_time, time, stepped), sample)
    opposite = RectifiedFlow(prediction="flow_neg")
    torch.testing.assert_close(opposite.step(-flow, time, next_time, sample), stepped)


def test_frames_may_be_at_times_of_their_own() -> None:
    scheduler, sample, flow = RectifiedFlow(), draw(0), draw(1)
    times, next_times = torch.tensor([[0.9, 0.0], [0.5, 0.2]]), torch.tensor([[0.6, 0.0], [0.1, 0.1]])
    stepped = scheduler.step(flow, times, next_times, sample)
    torch.testing.assert_close(stepped[0, :, 1], sample[0, :, 1])
    change = (next_times - times).double()
    torch.testing.assert_close(stepped, sample + change[:, None, :, None, None] * flow)


@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v", "flow", "flow_neg"])
def test_at_data_every_prediction_is_split(prediction: str) -> None:
    scheduler, sample = RectifiedFlow(prediction=prediction), draw(0)
    x0, noise = scheduler.split(draw(1), sample, torch.tensor(0.0))
    torch.testing.assert_close(x0, draw(1) if prediction == "x0" else sample)
    assert torch.isfinite(noise).all()
    if prediction == "x0":
        assert (noise == 0).all()


@pytest.mark.parametrize("prediction", ["x0", "v", "flow", "flow_neg"])
def test_at_noise_all_but_epsilon_are_split(prediction: str) -> None:
    scheduler, x0, noise, time = RectifiedFlow(prediction=prediction), draw(0), draw(1), torch.tensor(1.0)
    for found, given in zip(scheduler.split(scheduler.join(x0, noise, time), noise, time), (x0, noise), strict=True):
        torch.testing.assert_close(found, given)


def test_an_epsilon_at_pure_noise_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"alpha=0 doesn't tell x0.*predict v, flow or x0"):
        RectifiedFlow(prediction="epsilon").split(draw(0), draw(1), torch.tensor(1.0))


def test_the_loss_of_x0_is_that_of_flow_up_to_the_cap() -> None:
    times = torch.tensor([0.0, 0.05, 0.5, 0.8, 1.0], dtype=torch.float64)
    known = RectifiedFlow(prediction="x0", max_loss_weight=7.0)
    assert known.loss_weight(times).tolist() == pytest.approx([7, 7, 4, 1 / 0.64, 1])
    # an error of x0 at a given sample is this error of flow
    sample, flow = RectifiedFlow(), RectifiedFlow(prediction="flow")
    for time in times[2:]:
        error = flow.join(*known.split(draw(1), draw(0), time), time) - flow.join(
            *known.split(draw(2), draw(0), time), time
        )
        weighted = known.loss_weight(time) * (draw(1) - draw(2)).square()
        torch.testing.assert_close(weighted, error.square())
    assert sample.loss_weight(times).tolist() == [1.0] * 5
    assert RectifiedFlow(prediction="v").loss_weight(times).tolist() == [1.0] * 5


def test_training_times_follow_the_asked_distribution() -> None:
    def quantiles(**knobs: object) -> Tensor:
        times = RectifiedFlow(**knobs).sample_times(40_000, Generator().manual_seed(0))
        assert ((times >= 0) & (times <= 1)).all()
        return times.quantile(levels)

    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    # the standard error of a quantile is below sqrt(0.25 / 40000) / density, so 0.01 is four of them
    near = {"rtol": 0, "atol": 0.01}
    torch.testing.assert_close(quantiles(), levels, **near)
    torch.testing.assert_close(quantiles(shift=3.0), levels, **near)
    torch.testing.assert_close(quantiles(shift=3.0, shift_training=True), 3 * levels / (1 + 2 * levels), **near)
    normal = torch.distributions.Normal(0.5, 1.5).icdf(levels)
    logit_normal = {"sampling": "logit_normal", "sampling_mean": 0.5, "sampling_std": 1.5}
    torch.testing.assert_close(quantiles(**logit_normal), torch.sigmoid(normal), **near)
    # with a mode the times are a monotone function of uniform ones, so its quantiles are those of the function
    for scale in (-0.8, 0.0, 1.29):
        bend = 1 - (1 - levels) - scale * (torch.cos(torch.pi / 2 * (1 - levels)) ** 2 - 1 + (1 - levels))
        torch.testing.assert_close(quantiles(sampling="mode", mode_scale=scale), bend, **near)


@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v", "v_neg", "flow", "flow_neg"])
def test_min_snr_weighs_the_error_of_x0(prediction: str) -> None:
    scheduler = RectifiedFlow(prediction=prediction, min_snr_gamma=5.0)
    for time in torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64):
        snr = ((1 - time) / time) ** 2
        error = scheduler.split(draw(1), draw(0), time)[0] - scheduler.split(draw(2), draw(0), time)[0]
        weighted = scheduler.loss_weight(time) * (draw(1) - draw(2)).square()
        torch.testing.assert_close(weighted, snr.clamp(max=5) * error.square())


# height, width in pixels, latent frames, and some of the times that Open-Sora 1.2 makes of every twentieth
OPEN_SORA = {
    (360, 640, 30): {1: 0.2127583, 2: 0.3632781, 3: 0.4753847},
    (256, 256, 15): {1: 0.0924936, 2: 0.1770670, 3: 0.2546957},
    (720, 1280, 120): {1: 0.5194690, 2: 0.6953242, 3: 0.7837667},
    (512, 512, 1): {1: 0.05, 2: 0.10, 3: 0.15},
}


@pytest.mark.parametrize("size", OPEN_SORA)
def test_the_shift_by_size_is_that_of_open_sora(size: tuple[int, int, int]) -> None:
    height, width, frames = size
    times = RectifiedFlow(shift_by="size").timesteps(20, (frames, height // 8, width // 8))
    for index, time in OPEN_SORA[size].items():
        assert times[-1 - index].item() == pytest.approx(time, rel=1e-5)


def test_the_shift_by_the_tokens_of_a_frame_is_that_of_open_sora_2() -> None:
    scheduler = RectifiedFlow(shift_by="frame_tokens", shift_range=(1.0, 3.0))
    # 32x32 latents are 256 tokens, 128x128 are 4096
    assert scheduler.shift_of((1, 32, 32)) == pytest.approx(1)
    assert scheduler.shift_of((1, 128, 128)) == pytest.approx(3)
    assert scheduler.shift_of((9, 128, 128)) == pytest.approx(9)
    assert RectifiedFlow(shift_by="tokens").shift_of((4, 64, 64)) == pytest.approx(torch.e**1.15)
    with pytest.raises(ValueError, match="shift_by=tokens needs the size"):
        RectifiedFlow(shift_by="tokens").timesteps(4)


@pytest.mark.parametrize(
    ("preset", "size", "shift"),
    # what the originals come to at the sizes of these presets
    [("opensora_1_2", (15, 45, 80), 3.631), ("opensora_2_0", (33, 24, 42), 5.733), ("ltx_0_9", (16, 15, 22), 11.87)],
)
def test_presets_shift_by_the_size(preset: str, size: tuple[int, int, int], shift: float) -> None:
    scheduler = build_part("scheduler", compose("generate", [f"model={preset}"])["scheduler"])
    assert scheduler.shift_of(size) == pytest.approx(shift, rel=1e-3)


def test_a_shift_of_a_solver_is_that_of_the_flow() -> None:
    from videogen.schedulers.euler import Euler

    times = Euler(RectifiedFlow(), shift=5.0).timesteps(9)
    torch.testing.assert_close(times, RectifiedFlow(shift=5.0).timesteps(9), rtol=1e-12, atol=1e-12)


def test_the_times_are_stretched_to_the_terminal() -> None:
    times = RectifiedFlow(shift=2.0, shift_terminal=0.1).timesteps(8)
    assert times[[0, -2, -1]].tolist() == pytest.approx([1, 0.1, 0])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"shift": 0.0}, "shift=0.0 must be positive"),
        ({"sampling_std": -1.0}, "sampling_std=-1.0 must be positive"),
        ({"max_loss_weight": 0.0}, "max_loss_weight=0.0 must be positive"),
        ({"shift_by": "frames"}, "shift_by='frames' is unknown"),
        ({"token_range": (4096, 256)}, "two numbers of tokens, the lower first"),
        ({"curve": "quadratic"}, "did you mean 'linear_quadratic'"),
        ({"threshold": 1.0}, r"threshold=1.0 lies outside \(0, 1\)"),
        ({"shift_terminal": 1.0}, r"shift_terminal=1.0 lies outside \[0, 1\)"),
        ({"mode_scale": 2.0}, r"mode_scale=2.0 lies outside \[-1, 1.7"),
        ({"method": "rk4"}, "method='rk4' is unknown"),
        ({"prediction": "eps"}, "prediction='eps' is unknown.*epsilon"),
        ({"sampling": "lognormal"}, "did you mean 'logit_normal'"),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RectifiedFlow(**knobs)


@pytest.mark.parametrize("time", [-0.01, 700.0, float("nan")])
def test_a_time_on_another_scale_is_refused(time: float) -> None:
    with pytest.raises(ValueError, match=r"lies outside \[0, 1\].*divide a time on a scale of 1000"):
        RectifiedFlow().alpha_sigma(torch.tensor(time))

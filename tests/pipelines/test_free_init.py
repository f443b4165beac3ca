"""FreeInit: its filters and its noise against diffusers', and the rounds of a pipeline."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.pipelines.free_init_utils import FreeInitMixin
from tiny_films import tiny_pipeline as pipeline
from torch import Generator, Tensor

from videogen.pipelines.free_init import low_pass, mixed, started_over
from videogen.pipelines.sampling import FreeInitFilter, Sampling
from videogen.schedulers.ddim import DDIM

SHAPE = (2, 4, 6, 8, 10)


def draw(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def theirs(kind: str, space: float, time: float, order: int = 4) -> Any:
    mixin = FreeInitMixin()
    mixin.enable_free_init(3, False, kind, order, space, time)
    return mixin


@pytest.mark.parametrize("kind", ["butterworth", "gaussian", "ideal"])
@pytest.mark.parametrize(("space", "time", "order"), [(0.25, 0.25, 4), (0.5, 0.2, 4), (0.23, 1.0, 2), (1.0, 0.4, 1)])
def test_filters_and_mixtures_are_the_published_ones(
    kind: FreeInitFilter, space: float, time: float, order: int
) -> None:
    peer = theirs(kind, space, time, order)
    wanted = peer._get_free_init_freq_filter((1, *SHAPE[1:]), torch.device("cpu"), kind, order, space, time)
    kept = low_pass((6, 8, 10), kind, space, time, order)
    shifted = torch.fft.fftshift(kept, dim=(-3, -2, -1)).float()
    torch.testing.assert_close(shifted, wanted[0, 0], rtol=0, atol=1e-6)
    found, truth = mixed(draw(0), draw(1), kept), peer._apply_freq_filter(draw(0), draw(1), wanted)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-5)


def test_a_round_starts_as_the_published_one() -> None:
    peer, settings = theirs("butterworth", 0.25, 0.25), Sampling(free_init=1)
    peer.scheduler = DDIMScheduler(num_train_timesteps=1000)
    noise, film = draw(0), draw(1)
    peer._apply_free_init(noise, 0, 10, torch.device("cpu"), torch.float32, Generator())
    wanted, _ = peer._apply_free_init(film, 1, 10, torch.device("cpu"), torch.float32, Generator().manual_seed(5))
    alpha, sigma = (level.float() for level in DDIM().alpha_sigma(torch.tensor(999)))
    found = started_over(film, noise, draw(5), (alpha, sigma), settings)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", get_args(FreeInitFilter))
@pytest.mark.parametrize("size", [(5, 8, 8), (9, 7, 11), (1, 8, 8)])
def test_filters_keep_the_mean_and_give_real_films_at_odd_sizes_too(
    kind: FreeInitFilter, size: tuple[int, int, int]
) -> None:
    kept = low_pass(size, kind, 0.3, 0.4)
    assert kept[0, 0, 0] == 1
    assert 0 < kept.mean() < 1
    filtered = torch.fft.ifftn(torch.fft.fftn(draw(0, size).double()) * kept)
    assert filtered.imag.abs().max() < 1e-12
    low, high = draw(0, (1, 1, *size)), draw(1, (1, 1, *size))
    torch.testing.assert_close(mixed(low, high, kept).mean(), low.mean())
    torch.testing.assert_close(mixed(low, high, torch.ones(size)), low)
    torch.testing.assert_close(mixed(low, high, torch.zeros(size)), high)


def test_the_box_ends_at_its_stops() -> None:
    kept = low_pass((8, 8, 8), "box", 0.5, 0.25)
    # frequencies of 8 samples are 0, 1/4, 1/2, 3/4 of the highest, and their mirror images
    assert kept[:, 0, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 1]
    assert kept[0, :, 0].tolist() == kept[0, 0, :].tolist() == [1, 1, 1, 0, 0, 0, 1, 1]


def test_rounds_count_on_and_change_the_film() -> None:
    pipe, steps = pipeline("ddim"), []
    plain = pipe("a red circle")
    again = pipe("a red circle", free_init=2, callback=lambda step, _: steps.append(step))
    assert steps == list(range(1, 10))
    assert (again - plain).abs().max() > 1e-3
    assert torch.equal(again, pipe("a red circle", free_init=2))


def test_a_batch_changes_nobody_s_film() -> None:
    pipe = pipeline("ddpm")
    together = pipe(["a red circle", "a circle"], seed=[3, 5], free_init=1)
    for row, (prompt, seed) in enumerate((("a red circle", 3), ("a circle", 5))):
        torch.testing.assert_close(together[row], pipe(prompt, seed=seed, free_init=1)[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("scheduler", "changes", "message"),
    [
        ("ddim", {"free_init": -1}, "free_init=-1: 0 or more"),
        ("ddim", {"free_init": 1, "free_init_space": 0.0}, r"free_init_space=0\.0 lies outside \(0, 1\]"),
        ("ddim", {"free_init": 1, "free_init_time": 1.5}, r"free_init_time=1\.5 lies outside"),
        ("rectified_flow", {"free_init": 1}, "pure noise, which keeps nothing.*scheduler=ddim"),
    ],
)
def test_rounds_of_which_nothing_would_come_are_refused(scheduler: str, changes: dict[str, Any], message: str) -> None:
    pipe = pipeline(scheduler)
    with pytest.raises(ValueError, match=message):
        pipe("a circle", callback=lambda step, latents: pytest.fail("it sampled"), **changes)

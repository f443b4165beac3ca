"""Kinds of initial noise: frames of standard normal noise, from the film's own seed, and what they have in common."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin
from torch import Generator, Tensor

from videogen.initial_noise import INITIAL_NOISE, Seen

SEEN = Seen(length=5, stride=3)


def draw(name: str, shape: tuple[int, int, int, int], seed: int = 0, **knobs: Any) -> Tensor:
    return INITIAL_NOISE.build(name, **knobs).draw(shape, Generator().manual_seed(seed), SEEN)


@pytest.mark.parametrize("name", INITIAL_NOISE.names())
@pytest.mark.parametrize("frames", [1, 4, 5, 7, 12])
def test_every_frame_is_standard_normal_and_a_function_of_the_seed(name: str, frames: int) -> None:
    shape = (4, frames, 50, 50)
    noise = draw(name, shape)
    assert noise.shape == shape
    assert torch.equal(noise, draw(name, shape))
    assert not torch.equal(noise, draw(name, shape, seed=1))
    # 10,000 values a frame: five standard errors of their mean and of their standard deviation
    mean, std = noise.mean((0, 2, 3)), noise.std((0, 2, 3))
    assert mean.abs().max() < 0.05
    assert (std - 1).abs().max() < 0.036


def correlations(noise: Tensor) -> Tensor:
    """Between frames, (T, T)."""
    return torch.corrcoef(noise.transpose(0, 1).flatten(1))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_mixed_noise_is_equally_alike_in_all_frames(alpha: float) -> None:
    shared = alpha**2 / (1 + alpha**2)
    wanted = torch.full((6, 6), shared).fill_diagonal_(1.0)
    found = correlations(draw("mixed", (4, 6, 50, 50), alpha=alpha))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_progressive_noise_is_alike_the_nearer_frames_are(alpha: float) -> None:
    one = alpha / (1 + alpha**2) ** 0.5
    apart = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    found = correlations(draw("progressive", (4, 6, 50, 50), alpha=alpha))
    torch.testing.assert_close(found, torch.tensor(one) ** apart, rtol=0, atol=0.05)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", ["mixed", "progressive"])
def test_the_covariance_of_frames_is_pyoco_s(name: str, alpha: float) -> None:
    # arXiv 2305.10474: the shared noise is N(0, alpha^2 / (1 + alpha^2)) and the own one
    # N(0, 1 / (1 + alpha^2)); progressive noise shares that of the frame before
    shared, own = alpha**2 / (1 + alpha**2), 1 / (1 + alpha**2)
    wanted = torch.eye(5, dtype=torch.float64)
    if name == "mixed":
        wanted = own * wanted + shared
    for row, column in itertools.permutations(range(5), 2) if name == "progressive" else ():
        wanted[row, column] = shared ** (abs(row - column) / 2)
    # the frames are linear in what is drawn, one value a frame and for mixed noise a common one: their covariance is
    # exactly that of the coefficients
    count = 5 + (name == "mixed")
    coefficients = torch.stack([_of(name, alpha, row) for row in torch.eye(count, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(coefficients @ coefficients.T, wanted, rtol=0, atol=1e-12)


def _of(name: str, alpha: float, drawn: Tensor) -> Tensor:
    """The noise of five frames of one pixel, where these values are drawn in turn."""
    left = drawn.tolist()

    def randn(shape: tuple[int, ...], generator: Generator) -> Tensor:
        return torch.tensor([left.pop(0) for _ in range(math.prod(shape))], dtype=torch.float64).view(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", randn)
        return draw(name, (1, 5, 1, 1), alpha=alpha).flatten()


def test_a_negative_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"alpha=-1\.0: at least 0"):
        INITIAL_NOISE.build("mixed", alpha=-1.0)


@pytest.mark.parametrize("frames", [3, 5, 6, 11, 17])
@pytest.mark.parametrize("seen", [Seen(5, 3), Seen(5, 5), Seen(4, 1)])
def test_freenoise_is_the_published_one(frames: int, seen: Seen) -> None:
    theirs = AnimateDiffFreeNoiseMixin()
    vars(theirs).update(
        vae_scale_factor=8,
        _free_noise_context_length=seen.length,
        _free_noise_context_stride=seen.stride,
        _free_noise_noise_type="shuffle_context",
        vae=SimpleNamespace(config=SimpleNamespace(latent_channels=4)),
    )
    wanted = theirs._prepare_latents_free_noise(
        1, 4, frames, 16, 24, torch.float32, torch.device("cpu"), Generator().manual_seed(3)
    )
    found = INITIAL_NOISE.build("freenoise").draw((4, frames, 2, 3), Generator().manual_seed(3), seen)
    assert torch.equal(found, wanted[0])
    alone = INITIAL_NOISE.build("independent").draw((4, frames, 2, 3), Generator().manual_seed(3), seen)
    assert torch.equal(found[:, : seen.length], alone[:, : seen.length])


def test_freenoise_without_shuffling_repeats_the_window() -> None:
    noise = draw("freenoise", (4, 17, 2, 3), shuffle=False)
    assert torch.equal(noise[:, 5:], noise[:, :-5])
    assert len({tuple(frame.flatten().tolist()) for frame in noise.unbind(1)}) == 5


def test_every_window_of_freenoise_has_frames_that_differ() -> None:
    # strides do not straddle: each window that starts at one has all frames of the first
    noise = draw("freenoise", (4, 20, 2, 3))
    first = {tuple(frame.flatten().tolist()) for frame in noise[:, :5].unbind(1)}
    for start in range(0, 16, 3):
        assert {tuple(frame.flatten().tolist()) for frame in noise[:, start : start + 5].unbind(1)} == first


def test_freenoise_needs_a_window() -> None:
    with pytest.raises(ValueError, match="there is none: set window="):
        INITIAL_NOISE.build("freenoise").draw((4, 9, 2, 3), Generator(), None)

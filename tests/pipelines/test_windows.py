"""Windows over a long film: where they lie, what the denoiser is told of each, and what blending leaves as it is."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from tiny_films import tiny_pipeline
from torch import Tensor

import videogen
from videogen.denoiser import Condition
from videogen.guidance import GUIDES
from videogen.pipelines.cutting import TIME_AXES, WHOLE, cut_condition
from videogen.pipelines.placing import place_windows
from videogen.pipelines.sampling import Sampling
from videogen.pipelines.windows import Windowed, windowed
from videogen.schedulers import SCHEDULERS
from videogen.tasks import TASKS
from videogen.vae import VAESpec

WINDOWS = {"window": 9, "window_overlap": 4}


class Local:
    """A denoiser whose prediction for a frame depends on this frame alone, its time and what is known of it."""

    conditions = frozenset({"text", "text_mask", "known", "known_mask", "valid"})
    required: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        self.lengths.append(latents.shape[2])
        times = timestep[:, None, :, None, None] if timestep.ndim == 2 else timestep[:, None, None, None, None]
        out = torch.tanh(latents) * (1 + times.to(latents)) / 2
        for field in (condition.known, condition.valid):
            if field is not None:
                out = out + (field if field.ndim == 5 else field[:, None])
        mask = condition.known_mask
        return out if mask is None else out + (mask[:, None, :, None, None] if mask.ndim == 2 else mask)


class Unprompted(Local):
    conditions = frozenset({"text", "text_mask"})


class One(Local):
    def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return torch.ones_like(latents)


@pytest.mark.parametrize("frames", [5, 6, 7, 9, 16, 17, 40])
@pytest.mark.parametrize(("length", "overlap"), [(5, 2), (5, 0), (5, 4), (4, 2), (1, 0), (3, 1)])
def test_windows_cover_the_film_and_their_weights_sum_to_one(frames: int, length: int, overlap: int) -> None:
    windows = place_windows(frames, length, overlap)
    assert len(windows) == math.ceil((frames - overlap) / (length - overlap))
    assert (windows[0].start, windows[-1].stop) == (0, frames)
    total = torch.zeros(frames, dtype=torch.float64)
    for window in windows:
        assert window.stop - window.start == length
        assert (window.weights > 0).all()
        total[window.start : window.stop] += window.weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
    for before, behind in itertools.pairwise(windows):
        assert before.start < behind.start <= before.stop - overlap


def test_two_windows_fade_into_each_other() -> None:
    first, second = place_windows(8, 5, 2)
    share = torch.tensor([0.25, 0.75], dtype=torch.float64).mul(math.pi / 2).sin().square()
    torch.testing.assert_close(second.weights, torch.cat([share, torch.ones(3, dtype=torch.float64)]))
    torch.testing.assert_close(first.weights, second.weights.flip(0))


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("mask_channels", [0, 4])
def test_what_a_denoiser_does_to_each_frame_alone_is_the_same_in_windows(per_frame: bool, mask_channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    latents, known = torch.randn(2, 2, 4, 11, 3, 2, generator=generator, dtype=torch.float64)
    times = torch.rand((2, 11) if per_frame else (2,), generator=generator, dtype=torch.float64)
    mask = torch.rand((2, 4, 11, 3, 2) if mask_channels else (2, 11), generator=generator) > 0.5
    valid = torch.rand(2, 11, 3, 2, generator=generator) > 0.5
    condition, local = Condition(known=known, known_mask=mask, valid=valid), Local()
    whole = local(latents, times, condition)
    windowed = Windowed(local, 4, 2)(latents, times, condition)
    torch.testing.assert_close(windowed, whole, rtol=0, atol=1e-12)
    assert local.lengths == [11, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_windows_of_a_constant_are_this_constant(dtype: torch.dtype) -> None:
    predicted = Windowed(One(), 5, 3)(torch.zeros(1, 4, 8, 2, 2, dtype=dtype), torch.zeros(1), Condition())
    torch.testing.assert_close(predicted, torch.ones_like(predicted), rtol=0, atol=1e-6)
    assert predicted.dtype == dtype


@pytest.mark.parametrize("scheduler", SCHEDULERS.names())
def test_every_scheduler_walks_in_windows(scheduler: str) -> None:
    local = Unprompted()
    pipe = tiny_pipeline(scheduler, local)
    windowed = pipe("a circle", **WINDOWS)
    assert set(local.lengths) == {3}
    torch.testing.assert_close(windowed, pipe("a circle"), rtol=0, atol=1e-4)


@pytest.mark.parametrize("guide", GUIDES.names("[!t]*"))
def test_every_guide_guides_in_windows(guide: str) -> None:
    pipe = tiny_pipeline(denoiser=Unprompted(), guide=videogen.build("guide", guide))
    torch.testing.assert_close(pipe("a circle", **WINDOWS), pipe("a circle"), rtol=0, atol=1e-4)


@pytest.mark.parametrize("window", [17, 21])
def test_a_window_as_long_as_the_film_is_the_film(window: int) -> None:
    pipe = tiny_pipeline()
    assert torch.equal(pipe("a red circle", window=window), pipe("a red circle"))
    assert not torch.equal(pipe("a red circle", window=13), pipe("a red circle"))


@pytest.mark.parametrize("noise", ["independent", "freenoise", "mixed", "progressive"])
def test_a_batch_changes_nobody_s_film(noise: str) -> None:
    pipe = tiny_pipeline(initial_noise=videogen.build("initial_noise", noise))
    together = pipe(["a red circle", "a circle"], seed=[3, 5], **WINDOWS)
    for row, (prompt, seed) in enumerate((("a red circle", 3), ("a circle", 5))):
        torch.testing.assert_close(together[row], pipe(prompt, seed=seed, **WINDOWS)[0], rtol=0, atol=2e-4)


def test_known_frames_stay_as_they_are_in_every_window() -> None:
    pipe = tiny_pipeline(task=TASKS.build("image_to_video"))
    pipe.sampling = dataclasses.replace(pipe.sampling, clean_frames="any", **WINDOWS)
    times: list[Tensor] = []
    pipe.denoiser.register_forward_pre_hook(lambda _, given: times.append(given[1]))  # type: ignore[attr-defined]
    first, last = torch.rand(2, 3, 16, 24) * 2 - 1
    image = {0: first, **dict.fromkeys(range(-4, 0), last)}
    made: list[Tensor] = []
    for seed in (0, 1):
        steps: list[Tensor] = []
        pipe("a circle", image=image, seed=seed, callback=lambda _, latents, steps=steps: steps.append(latents))
        made.append(steps[-1])
    # 5 latent frames in 2 windows of 3: the first and the last are known, and without noise from the first step on
    assert [(each == 0)[0].tolist() for each in times[:2]] == [[True, False, False], [False, False, True]]
    torch.testing.assert_close(made[0][:, :, [0, -1]], made[1][:, :, [0, -1]], rtol=0, atol=1e-5)
    assert not torch.allclose(made[0][:, :, 2], made[1][:, :, 2], atol=1e-2)


def test_every_field_of_the_condition_is_cut_or_whole() -> None:
    fields = {field.name for field in dataclasses.fields(Condition) if field.init}
    assert fields == set(TIME_AXES) | WHOLE | {"image"}
    assert not set(TIME_AXES) & WHOLE


def test_a_field_that_nobody_knows_how_to_cut_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Louder(Condition):
        sound: Tensor | None = None

    with pytest.raises(ValueError, match=r"condition\.sound can't be cut into windows: set window=0"):
        cut_condition(Local(), Louder(sound=torch.zeros(1, 9)), slice(0, 3), 9)


def test_image_tokens_of_each_frame_are_cut_and_those_of_an_image_are_the_films() -> None:
    local: Any = Local()
    window, tokens = slice(2, 5), torch.arange(18.0).view(1, 18, 1)
    whole = Condition(image=tokens)
    assert cut_condition(local, whole, window, 9) is whole
    local.image_tokens_per_frame = 2
    cut = cut_condition(local, whole, window, 9).image
    assert cut is not None
    assert cut.flatten().tolist() == list(range(4, 10))
    # as many as the frames of a window: each window reads all of them
    assert cut_condition(local, whole, window, 20) is whole


def test_a_window_without_the_image_that_a_model_needs_is_refused() -> None:
    local = Local()
    local.required = frozenset({"known"})
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, 0] = True
    told = Condition(known=torch.zeros(1, 4, 9, 2, 2), known_mask=mask)
    with pytest.raises(ValueError, match=r"latent frames 4 to 8 are a window of which nothing is known.*task=extend"):
        Windowed(local, 5, 1)(torch.zeros(1, 4, 9, 2, 2), torch.zeros(1), told)
    assert local.lengths == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 10}, "window=10: 10 frames do not fit a temporal stride of 4: use 9 or 13"),
        ({"window": -4}, "window=-4"),
        ({"window": 9, "window_overlap": 6}, "window_overlap=6: a latent frame holds 4, use 4 or 8"),
        ({"window": 9, "window_overlap": -4}, "window_overlap=-4: a latent frame holds 4, use 0 or 4"),
        ({"window": 9, "window_overlap": 12}, "window_overlap=12 frames of window=9: 3 of 3 latent frames"),
    ],
)
def test_windows_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    pipe = tiny_pipeline()
    with pytest.raises(ValueError, match=message):
        pipe("a circle", callback=lambda step, latents: pytest.fail("it sampled"), **changes)


def test_times_that_depend_on_the_size_are_those_of_a_window() -> None:
    pipe = tiny_pipeline(scheduler="rectified_flow")
    pipe.scheduler = videogen.build("scheduler", "rectified_flow", shift_by="tokens")
    seen: list[float] = []
    pipe.denoiser.register_forward_pre_hook(lambda _, given: seen.append(float(given[1][0])))  # type: ignore[attr-defined]
    for settings in ({"num_frames": 9}, {"num_frames": 17}, {"num_frames": 17, **WINDOWS}):
        pipe("a circle", steps=2, **settings)
    short, long, windowed = seen[1], seen[3], seen[-1]
    assert short == windowed != long


def test_windows_of_a_film_of_stride_one() -> None:
    spec = VAESpec(4, 1, 8, False, (), ())
    settings = Sampling(num_frames=24, window=16, window_overlap=8)
    made = windowed(Local(), settings, spec)
    assert isinstance(made, Windowed)
    assert (made.length, made.overlap) == (16, 8)

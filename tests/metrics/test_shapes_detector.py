"""The detector reads true renders right, soft and noisy ones too, and says when a video isn't what was asked for."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from videogen.data.shapes import Attributes, Scene, Shapes, render, tracks
from videogen.metrics.shapes import Reading, adherence, read, score

SIZES = [(64, 64), (48, 80), (80, 48)]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def soft_and_noisy(video: torch.Tensor, sigma: float = 0.7, noise: float = 0.05) -> torch.Tensor:
    """Gaussian blur of `sigma` pixels, then noise."""
    taps = torch.exp(-(torch.arange(-3.0, 4) ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    frames = F.pad(video.flatten(0, 1)[:, None], (3, 3, 3, 3), mode="replicate")
    frames = F.conv2d(F.conv2d(frames, taps.view(1, 1, 1, 7)), taps.view(1, 1, 7, 1)).view_as(video)
    return frames + noise * torch.randn(video.shape, generator=torch.Generator().manual_seed(0))


def shows(reading: Reading, scene: Scene, num_frames: int) -> bool:
    """Whether every attribute was read, also those that a caption would leave out."""
    moves = num_frames > 1
    true = {(o.colour, o.shape, o.size, *((o.direction, o.speed) if moves else (None, None))) for o in scene.objects}
    seen = {(o.colour, o.shape, o.size, o.direction, o.speed) for o in reading.objects}
    return (seen, reading.count, reading.background) == (true, len(true), scene.background)


def drawn(*objects: str, background: str = "black", num_frames: int = 9) -> torch.Tensor:
    """A video of objects written as "colour shape direction size"; what moves is slow."""
    words = [one.split() for one in objects]
    radii = tuple({"small": 8.0, "large": 13.0}[size] for *_, size in words)
    described = tuple(Attributes(*one, speed=None if one[2] == "still" else "slow") for one in words)
    return render(Scene(described, background, radii), num_frames, 64, 64, np.random.default_rng(1))


def rate(num_clips: int, spoil, seed: int) -> float:
    """The share of clips read right in every attribute, over both splits, three sizes and three lengths."""
    kinds = itertools.product(("train", "heldout"), SIZES, (1, 17, 17, 33))
    right = []
    for index, (split, (height, width), num_frames) in zip(range(num_clips), itertools.cycle(kinds), strict=False):
        dataset = Shapes(split=split, seed=seed, two_objects=0.4)
        video = spoil(dataset.clip(index, num_frames, height, width).video)
        right.append(shows(read(video), dataset.scene(index), num_frames))
    return sum(right) / len(right)


def test_true_renders_are_read_right():
    assert rate(300, lambda video: video, seed=11) >= 0.99


def test_blur_and_noise_are_survived():
    assert rate(120, soft_and_noisy, seed=12) >= 0.97


@pytest.mark.slow
def test_many_more_renders_are_read_right():
    assert rate(1500, lambda video: video, seed=13) >= 0.99
    assert rate(700, soft_and_noisy, seed=14) >= 0.97
    assert rate(700, lambda video: soft_and_noisy(video, 1.2, 0.15), seed=15) >= 0.97


def test_captions_hold_of_their_clips():
    dataset = Shapes(seed=2, two_objects=0.4)
    clips = [dataset.clip(index, 9, 48, 64) for index in range(40)]
    result = score((clip.video for clip in clips), [clip.text for clip in clips])
    assert result["videos"] == 40
    assert set(result) == {"colour", "shape", "direction", "size", "speed", "count", "background", "all", "videos"}
    assert result["all"] >= 0.97


@pytest.mark.parametrize(
    ("prompt", "wrong"),
    [
        ("a small red circle moving slowly right on a black background", set()),
        ("a red circle moving to the right", set()),
        ("a red circle", set()),
        ("a blue circle moving right", {"colour"}),
        ("a red square moving right", {"shape"}),
        ("a red circle moving left", {"direction"}),
        ("a red circle not moving", {"direction"}),
        ("a large red circle moving right", {"size"}),
        ("a red circle moving quickly right", {"speed"}),
        ("a red circle on a gray background", {"background"}),
        ("a red circle moving right and a blue square moving up", {"colour", "shape", "direction", "count"}),
    ],
)
def test_a_wrong_caption_fails_in_what_is_wrong(prompt, wrong):
    result = adherence(drawn("red circle right small"), prompt)
    assert {key for key, right in result.items() if not right} == wrong | ({"all"} if wrong else set())


@pytest.mark.parametrize(
    ("prompt", "wrong"),
    [
        ("a red circle moving right and a blue square moving up", set()),
        ("a blue square moving up and a red circle moving right", set()),
        ("a red square moving right and a blue circle moving up", {"shape"}),
        ("a red circle moving up and a blue square moving right", {"direction"}),
        ("a small red circle moving right and a small blue square moving up", {"size"}),
        ("a red circle moving right", {"count"}),
    ],
)
def test_attributes_belong_to_their_object(prompt, wrong):
    result = adherence(drawn("red circle right small", "blue square up large"), prompt)
    assert {key for key, right in result.items() if not right} == wrong | ({"all"} if wrong else set())


def test_an_image_is_not_judged_by_its_motion():
    result = adherence(drawn("red circle right small", num_frames=1), "a small red circle moving quickly up")
    assert result == {"colour": True, "shape": True, "size": True, "count": True, "all": True}


def test_where_and_how_large_an_object_is():
    scene = Scene((Attributes("green", "triangle", "left", "large", "fast"),), "gray", (12.5,))
    centres = tracks(scene, 17, 96, 120, np.random.default_rng(3))[0]
    (found,) = read(render(scene, 17, 96, 120, np.random.default_rng(3))).objects
    # half a pixel; radii are searched in steps of 0.5 / 64 of the shorter side
    np.testing.assert_allclose(found.position, centres.mean(axis=0), atol=0.5)
    assert found.radius == pytest.approx(12.5 * 96 / 64, abs=0.5 * 96 / 64)


def test_two_objects_of_one_colour_are_counted():
    video = drawn("red circle still small")
    both = torch.maximum(video, video.roll((32, 32), (2, 3)))
    assert read(both).count == 2
    assert not adherence(both, "a red circle")["count"]


def test_specks_ghosts_and_plain_noise_are_no_objects():
    video = drawn("red circle right small")
    ghost = 0.8 * video + 0.2 * drawn("blue square left large")
    ghost[:, :, :2, :2] = 1
    assert adherence(ghost, "a small red circle moving right")["all"]
    assert read(torch.randn(3, 9, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)).count == 0
    assert read(torch.full((3, 9, 64, 64), -1.0)) == Reading("black", (), 0)


def test_an_object_that_vanishes_or_changes_its_colour_is_not_there():
    red, blue = drawn("red circle still small"), drawn("blue circle still small")
    halves = torch.cat((red[:, :5], blue[:, 5:]), dim=1)
    assert not adherence(halves, "a red circle")["colour"]
    assert not adherence(torch.cat((red[:, :5], torch.full_like(red, -1)), dim=1), "a red circle")["count"]


def test_another_shape_and_a_slanting_path_are_none_of_the_known():
    x, y = torch.meshgrid(torch.arange(-32.0, 32), torch.arange(-32.0, 32), indexing="xy")
    ring = ((x.hypot(y) < 12) & (x.hypot(y) > 6)).float().expand(3, 1, 64, 64) * 2 - 1
    slanting = torch.cat([ring.roll((step, step), (2, 3)) for step in range(9)], dim=1)
    (found,) = read(slanting).objects
    assert (found.colour, found.shape, found.direction) == ("white", None, None)


def test_what_is_no_video_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 3, 9, 64, 64\) can't be read: give one clip"):
        read(torch.zeros(1, 3, 9, 64, 64))
    with pytest.raises(ValueError, match="NaN or infinity"):
        read(torch.full((3, 1, 64, 64), torch.nan))
    with pytest.raises(ValueError, match="not a sentence of the shapes world"):
        adherence(torch.zeros(3, 1, 64, 64), "a cat")
    with pytest.raises(ValueError, match="nothing to score"):
        score([], [])

"""The shapes world: endless, repeatable, in frame, never touching, and its sentences read back."""

from collections import Counter

import numpy as np
import pytest
import torch

from videogen.data import DATASETS
from videogen.data import shapes as world
from videogen.data.shapes import HELD_OUT, Attributes, Scene, Shapes, Spec, caption, parse, render, tracks

SIZES = [(64, 64), (48, 80), (80, 48)]


def test_a_clip_is_a_function_of_seed_split_and_index():
    first, again = Shapes(seed=3).clip(7, 5, 48, 64), Shapes(seed=3).clip(7, 5, 48, 64)
    assert first.text == again.text
    assert torch.equal(first.video, again.video)
    for other in (Shapes(seed=4), Shapes(seed=3, split="heldout")):
        assert not torch.equal(first.video, other.clip(7, 5, 48, 64).video)
    assert not torch.equal(first.video, Shapes(seed=3).clip(8, 5, 48, 64).video)


@pytest.mark.parametrize("num_frames", [1, 17, 33])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_clip_keeps_to_the_contract(num_frames, height, width):
    dataset = DATASETS.build("shapes", two_objects=0.5)
    for index in range(20):
        video, text = dataset.clip(index, num_frames, height, width)
        assert video.shape == (3, num_frames, height, width)
        assert video.dtype == torch.float32
        assert video.min() >= -1
        assert video.max() <= 1
        assert set(text.split()) <= set(world.VOCABULARY)


def test_the_held_out_triples_are_a_balanced_tenth():
    colours, shapes, directions = (Counter(values) for values in zip(*HELD_OUT, strict=True))
    assert len(HELD_OUT) == 12
    assert colours == dict.fromkeys(world.COLOURS, 2)
    assert shapes == dict.fromkeys(world.SHAPES, 3)
    assert sorted(directions.values()) == [2, 2, 2, 3, 3]


def test_no_triple_is_shown_in_both_splits():
    for split, shown in (("train", False), ("heldout", True)):
        dataset = Shapes(split=split, two_objects=0.5)
        objects = [one for index in range(300) for one in dataset.scene(index).objects]
        assert {(one.colour, one.shape, one.direction) in HELD_OUT for one in objects} == {shown}


def test_every_triple_of_a_split_comes_up_and_two_objects_have_two_colours():
    dataset = Shapes(two_objects=0.5)
    scenes = [dataset.scene(index) for index in range(1200)]
    triples = {(one.colour, one.shape, one.direction) for scene in scenes for one in scene.objects}
    assert len(triples) == 108
    pairs = [scene.objects for scene in scenes if len(scene.objects) == 2]
    assert 0.45 < len(pairs) / len(scenes) < 0.55
    assert all(first.colour != second.colour for first, second in pairs)


@pytest.mark.parametrize("num_frames", [1, 17, 33])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_objects_stay_inside_and_apart(num_frames, height, width):
    dataset = Shapes(two_objects=0.7, seed=1)
    for index in range(60):
        scene = dataset.scene(index)
        centres = tracks(scene, num_frames, height, width, np.random.default_rng(index))
        radii = np.array(scene.radii)[:, None, None] * min(height, width) / 64
        assert (centres - radii >= -1e-9).all()
        assert (centres + radii <= np.array([width, height]) + 1e-9).all()
        if len(centres) == 2:
            assert (np.abs(centres[0] - centres[1]).max(axis=1) > radii.sum()).all()


def test_two_large_objects_that_hardly_pass_each_other_find_a_place() -> None:
    """This scene's objects keep apart in one of some 56,000 tries."""
    clip = Shapes(seed=8, two_objects=0.6).clip(2146, 33, 64, 64)
    assert clip.video.shape == (3, 33, 64, 64)


@pytest.mark.parametrize(
    ("direction", "speed", "step"),
    [("left", "slow", (-0.5, 0)), ("right", "fast", (1.125, 0)), ("up", "fast", (0, -1.125)), ("still", None, (0, 0))],
)
def test_objects_move_as_they_are_described(direction, speed, step):
    scene = Scene((Attributes("red", "cross", direction, "large", speed),), "gray", (13.5,))
    centres = tracks(scene, 33, 128, 192, np.random.default_rng(0))[0]
    np.testing.assert_allclose(np.diff(centres, axis=0), np.tile(np.array(step) * 2, (32, 1)), atol=1e-9)


@pytest.mark.parametrize(
    # what covers a shape of radius r, in r²: π, (2 · 0.88)², half base times height, two bars less their middle
    ("shape", "area"),
    [("circle", np.pi), ("square", 1.76**2), ("triangle", 1.5), ("cross", 2 * 2 * 0.68 - 0.68**2)],
)
def test_a_drawn_shape_has_its_area_centre_and_extent(shape, area):
    scene = Scene((Attributes("white", shape, "still", "large"),), "black", (12.7,))
    alpha = (render(scene, 1, 65, 67, np.random.default_rng(5))[0, 0].double() + 1) / 2
    radius = 12.7 * 65 / 64
    # clipping a distance to one pixel is exact on straight sides and off by a fraction of a pixel at each corner
    assert alpha.sum().item() == pytest.approx(area * radius**2, rel=0.01)
    (x, y), *_ = tracks(scene, 1, 65, 67, np.random.default_rng(5))[0]
    across, down = torch.arange(67).double() + 0.5, torch.arange(65).double() + 0.5
    assert (alpha.sum(0) @ across / alpha.sum()).item() == pytest.approx(x, abs=0.05)
    assert (alpha.sum(1) @ down / alpha.sum()).item() == pytest.approx(y, abs=0.05)
    # a pixel that is covered by half or more has its own centre inside the outline, up to float32
    rows, columns = torch.nonzero(alpha > 0.5 + 1e-5, as_tuple=True)
    assert max((across[columns] - x).abs().max(), (down[rows] - y).abs().max()) <= radius


def test_a_caption_is_true_of_its_scene():
    dataset, rng = Shapes(two_objects=0.5), np.random.default_rng(0)
    named = Counter()
    for index in range(400):
        scene = dataset.scene(index)
        spec = parse(caption(scene, rng))
        assert spec.background in (None, scene.background)
        for said, one in zip(spec.objects, scene.objects, strict=True):
            assert (said.colour, said.shape, said.direction) == (one.colour, one.shape, one.direction)
            assert said.size in (None, one.size)
            assert said.speed in (None, one.speed)
            named.update(key for key in ("size", "speed") if getattr(said, key))
    assert min(named["size"], named["speed"]) > 100


def test_the_caption_of_an_image_says_nothing_of_motion():
    dataset = Shapes(two_objects=0.5)
    for index in range(100):
        spec = parse(dataset.clip(index, 1, 16, 16).text)
        assert all(one.direction is None and one.speed is None for one in spec.objects)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("a red circle moving right", Spec((Attributes("red", "circle", "right"),))),
        ("A red circle  moving right", Spec((Attributes("red", "circle", "right"),))),
        ("a white cross staying still", Spec((Attributes("white", "cross", "still"),))),
        ("a white cross that stays still", Spec((Attributes("white", "cross", "still"),))),
        ("a red circle", Spec((Attributes("red", "circle"),))),
        (
            "a small red circle moving slowly to the right on a dark blue background",
            Spec((Attributes("red", "circle", "right", "small", "slow"),), "dark blue"),
        ),
        (
            "a red circle moving left and a large blue square moving quickly up on a black background",
            Spec((Attributes("red", "circle", "left"), Attributes("blue", "square", "up", "large", "fast")), "black"),
        ),
    ],
)
def test_sentences_are_read(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a pink circle moving right",
        "red circle",
        "a red circle moving",
        "a red circle moving to the up",
        "a red circle on a pink background",
        "a red circle moving right quickly",
    ],
)
def test_other_sentences_are_refused(text):
    with pytest.raises(ValueError, match="not a sentence of the shapes world: write"):
        parse(text)


def test_a_sentence_of_too_much_is_refused():
    with pytest.raises(ValueError, match="names 3 objects"):
        parse("a red circle and a blue circle and a green circle")
    with pytest.raises(ValueError, match="two red objects"):
        parse("a red circle and a red square")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="34 frames: objects stay in view for 1 to 33"):
        Shapes().clip(0, 34, 64, 64)
    with pytest.raises(ValueError, match="7x64 is too small"):
        Shapes().clip(0, 1, 7, 64)
    with pytest.raises(ValueError, match="index -1 is negative"):
        Shapes().scene(-1)
    with pytest.raises(ValueError, match=r"two_objects 1\.5 is a share"):
        Shapes(two_objects=1.5)
    with pytest.raises(ValueError, match="split 'test' doesn't exist"):
        Shapes(split="test")
    with pytest.raises(ValueError, match="seed -1 is negative"):
        Shapes(seed=-1)

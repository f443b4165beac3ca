"""Tasks under a sampler that knows its world perfectly: every frame is the one before it, and a hundredth brighter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import videogen
from videogen.tasks import TASKS, Known, Request, Start
from videogen.vae import VAESpec

SPEC = VAESpec(4, 4, 8, True, (), ())
STEP = 0.01
SIZE = (16, 24)


def ramp(frames: int, first: float = -0.5, batch: int = 1) -> Tensor:
    """Films (B, 3, T, H, W) of this world."""
    return (first + STEP * torch.arange(frames)).view(-1, 1, 1).expand(batch, 3, -1, *SIZE).clone()


class World:
    """Samples what fits on to the known frames; what it was asked for is kept."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(
        self,
        num_frames: int,
        *,
        known: Known | None = None,
        start: Start | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Tensor:
        self.asked.append({"num_frames": num_frames, "known": known, "start": start, "prompts": prompts})
        if start is not None and known is None:
            return start.film + 0.1 * start.strength
        if known is None:
            return ramp(num_frames)
        assert known.film.shape[2] == len(known.mask) == num_frames
        where = int(known.mask.flatten(1).any(1).nonzero()[0])
        # of the first known frame, its first known pixel
        value = known.film[:, :, where][:, :, known.mask[where]].flatten(1)[:, 0]
        first = value - STEP * where
        return (first.view(-1, 1, 1, 1, 1) + STEP * torch.arange(num_frames).view(-1, 1, 1)).expand(-1, 3, -1, *SIZE)

    def check(self, num_frames: int, known: Known) -> None:
        assert known.film.shape[2] == len(known.mask) == num_frames


def request(**given: Any) -> Request:
    return Request(["a red circle"], 17, *SIZE, SPEC, **given)


def run(name: str, asked: Request | None = None, **knobs: Any) -> tuple[Tensor, World]:
    world = World()
    return videogen.build("task", name, **knobs).run(asked or request(), world), world


def assert_film(film: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(film, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [18, 25, 49, 100])
@pytest.mark.parametrize("given", [0, 3, 17, 30])
def test_a_film_goes_on_for_as_long_as_wanted(length: int, given: int) -> None:
    if given >= length:
        with pytest.raises(ValueError, match=f"has {given} frames already"):
            run("extend", request(video=ramp(given)), length=length)
        return
    film, world = run("extend", request(video=ramp(given)) if given else None, length=length)
    assert_film(film, ramp(length))
    # of samples with nine frames in common eight are new; of a shorter film as many are known as fill latent frames
    known = [ask["known"].frames.nonzero().flatten().tolist() for ask in world.asked if ask["known"] is not None]
    assert known[0] == list(range(1 if given == 3 else 9))
    assert known[-1] == list(range(9)) or len(known) == 1


def test_a_film_goes_on_backward() -> None:
    film, world = run("extend", request(video=ramp(17)), length=40, direction="backward")
    assert_film(film, ramp(40, -0.5 - 23 * STEP))
    assert [ask["known"].frames.nonzero().flatten().tolist() for ask in world.asked] == [list(range(9, 17))] * 3


def test_sentences_follow_each_other_and_share_one_frame_where_they_change() -> None:
    film, world = run("extend", length=82, then=("a circle", "a square"), scene=25)
    assert_film(film, ramp(82))
    said = [(ask["prompts"] or ["a red circle"])[0] for ask in world.asked]
    shared = [0 if ask["known"] is None else int(ask["known"].frames.sum()) for ask in world.asked]
    # a film of 17, 25, 41, 49, 57, 73, 81 and 97 frames, 25 frames for each sentence
    assert said == ["a red circle"] * 2 + ["a circle"] * 3 + ["a square"] * 2 + ["a red circle"]
    assert shared == [0, 9, 1, 9, 9, 1, 9, 1]
    _, world = run("extend", length=60, then=("a circle",))
    said = [(ask["prompts"] or ["a red circle"])[0] for ask in world.asked]
    assert said == ["a red circle", "a circle", "a red circle", "a circle"]


def test_two_films_are_connected_and_stay_as_they_are() -> None:
    one, other = ramp(20), ramp(12, -0.5 + (20 + 8) * STEP)
    film, world = run("connect", request(video=one, other=other))
    assert_film(film, ramp(20 + 8 + 12))
    assert torch.equal(film[:, :, :20], one)
    assert torch.equal(film[:, :, -12:], other)
    assert world.asked[0]["known"].frames.nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 13, 14, 15, 16]


def test_two_films_of_two_sentences_dissolve_into_each_other() -> None:
    one, other = ramp(20), ramp(12, 0.5)
    film, world = run("connect", request(video=one, other=other), then="a blue square")
    assert torch.equal(film[:, :, :20], one)
    assert torch.equal(film[:, :, -12:], other)
    assert [(ask["prompts"] or ["a red circle"])[0] for ask in world.asked] == ["a red circle", "a blue square"]
    assert [ask["known"].frames.nonzero().flatten().tolist() for ask in world.asked] == [
        [0, 1, 2, 3, 4],
        [13, 14, 15, 16],
    ]
    # each of the eight frames between is a ninth more of the other film, and both go on meanwhile
    share = torch.arange(1, 9) / 9
    wanted = torch.lerp(ramp(28)[0, 0, 20:, 0, 0], ramp(20, 0.5 - 8 * STEP)[0, 0, :8, 0, 0], share)
    torch.testing.assert_close(film[0, 0, 20:28, 0, 0], wanted, rtol=0, atol=1e-5)


def test_a_loop_leads_back_to_its_first_frame_and_doesn_t_repeat_it() -> None:
    film, world = run("loop")
    assert film.shape[2] == 17 + 12
    known = world.asked[1]["known"]
    assert known.frames.nonzero().flatten().tolist() == [0, 13, 14, 15, 16]
    assert torch.equal(known.film[:, :, 0], film[:, :, 16])
    assert torch.equal(known.film[:, :, 13:], film[:, :, :4])


def test_a_loop_that_turns_arrives_in_reverse() -> None:
    film, world = run("loop", request(video=ramp(20)), back="a circle")
    assert film.shape[2] == 20 + 15
    assert world.asked[0]["prompts"] == ["a circle"]
    known = world.asked[0]["known"]
    assert torch.equal(known.film[:, :, 13:], film[:, :, :4].flip(2))
    # the last frames are those of the start as they were given, up to the first, which isn't repeated
    assert torch.equal(film[:, :, -3:], film[:, :, 1:4].flip(2))


def test_an_edit_starts_from_the_film() -> None:
    film, world = run("edit", request(video=ramp(30)), strength=0.3)
    assert_film(film, ramp(17) + 0.03)
    assert world.asked[0]["start"].strength == 0.3
    for strength in (0.0, 1.5, -1.0):
        with pytest.raises(ValueError, match=f"strength={strength}: above 0, where the film stays, to 1"):
            videogen.build("task", "edit", strength=strength)


def test_what_the_mask_covers_is_made_anew_and_nothing_else() -> None:
    # the film has a spot that isn't of this world
    spoilt = ramp(17)
    spoilt[:, :, 4:9, 8:, 12:] = 0.9
    film, world = run("inpaint", request(video=spoilt), box=(0.5, 0.5, 1.0, 1.0), frames=(4, 9))
    assert_film(film, ramp(17))
    assert int((~world.asked[0]["known"].mask).sum()) == 5 * 8 * 12
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[8:, 12:] = True
    assert torch.equal(run("inpaint", request(video=spoilt, mask=mask), frames=(4, 9))[0], film)
    whole = mask.expand(17, -1, -1).clone()
    whole[:4] = whole[9:] = False
    assert torch.equal(run("inpaint", request(video=spoilt, mask=whole))[0], film)


@pytest.mark.parametrize(
    ("given", "knobs", "message"),
    [
        ({}, {}, "covers everything of the film"),
        ({"mask": torch.zeros(SIZE, dtype=torch.bool)}, {}, "covers nothing of the film"),
        ({"mask": torch.ones(SIZE, dtype=torch.bool)}, {"box": (0.0, 0.0, 0.5, 0.5)}, "a mask and task.box"),
        ({"mask": torch.ones(3, *SIZE, dtype=torch.bool)}, {}, "give \\(16, 24\\) or \\(17, 16, 24\\)"),
        ({}, {"frames": (3, 40)}, "the film has 17 frames"),
    ],
)
def test_masks_that_say_nothing_are_refused(given: dict[str, Any], knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run("inpaint", request(video=ramp(17), **given), **knobs)


def test_more_is_painted_around_a_film() -> None:
    film, world = run("outpaint", request(video=ramp(17)), scale=0.5, down=0.0, across=1.0)
    assert_film(film, ramp(17))
    known = world.asked[0]["known"]
    assert known.mask[0].nonzero().tolist() == [[row, column] for row in range(8) for column in range(12, 24)]


def test_frames_between_frames_start_from_their_neighbours() -> None:
    given = ramp(12)[:, :, ::3]
    _, world = run("interpolate", request(video=given), factor=3, strength=0.2)
    assert world.asked[0]["start"].strength == 0.2
    shown = world.asked[0]["start"].film[0, 0, :, 0, 0]
    assert_film(shown, given[0, 0, [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3], 0, 0])


@pytest.mark.parametrize("frames", [2, 5, 9, 12])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_frames_come_between_frames(frames: int, factor: int) -> None:
    sparse = ramp((frames - 1) * factor + 1)[:, :, ::factor]
    film, _ = run("interpolate", request(video=sparse), factor=factor)
    assert_film(film, ramp((frames - 1) * factor + 1))
    assert torch.equal(film[:, :, ::factor], sparse)


@pytest.mark.parametrize(
    ("name", "given", "knobs", "message"),
    [
        ("interpolate", {"video": ramp(1)}, {}, "1 frames, 2 times as many"),
        ("interpolate", {"video": ramp(5)}, {"factor": 17}, "num_frames of at least 18"),
        ("edit", {"video": ramp(5)}, {}, "the film has 5 frames and num_frames=17"),
        ("outpaint", {"video": ramp(5)}, {}, "the film has 5 frames and num_frames=17"),
        ("loop", {"video": ramp(3)}, {}, "the film has 3 frames: the way back leads to the first 4"),
        ("extend", {"video": ramp(9)}, {"overlap": 17}, "overlap=17 keeps 17 frames of samples of 17"),
        ("extend", {"video": ramp(30)}, {"overlap": 17}, "overlap=17 keeps 17 frames of samples of 17"),
        ("extend", {"video": ramp(30)}, {"overlap": 0}, "overlap=0 keeps"),
        (
            "extend",
            {},
            {"length": 10**6},
            "1 x 1000000 frames of 24x16 are 384000000 pixels and the limit is",
        ),
        ("connect", {"video": ramp(9), "other": ramp(3)}, {}, "overlap=5 keeps 0 frames"),
        ("connect", {"video": ramp(9), "other": ramp(9)}, {"overlap": 9}, "overlap=9 keeps 17 frames"),
    ],
)
def test_lengths_that_don_t_fit_are_refused(
    name: str, given: dict[str, Any], knobs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(name, request(**given), **knobs)


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("extend", {"length": 0}, "length=0"),
        ("extend", {"scene": 5}, "say with then="),
        ("extend", {"then": (" ",)}, "empty sentence"),
        ("inpaint", {"box": (0.5, 0.0, 0.5, 1.0)}, "box="),
        ("inpaint", {"frames": (5, 5)}, "frames="),
        ("outpaint", {"scale": 1.0}, "scale=1.0"),
        ("outpaint", {"down": 2.0}, "down=2.0"),
        ("interpolate", {"factor": 1}, "factor=1"),
        ("interpolate", {"strength": 0.0}, "strength=0.0"),
    ],
)
def test_knobs_out_of_range_are_refused(name: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        videogen.build("task", name, **knobs)


@pytest.mark.parametrize("name", TASKS.names())
def test_a_task_needs_no_more_than_it_takes(name: str) -> None:
    task = TASKS.build(name)
    assert task.needs <= task.takes <= {"image", "video", "other", "mask"}


def test_a_still_needs_a_frame_that_stands_alone() -> None:
    assert run("text_to_image")[0].shape[2] == 1
    with pytest.raises(ValueError, match="takes 4 frames at once and no single image"):
        run("text_to_image", Request(["a"], 16, *SIZE, VAESpec(4, 4, 8, False, (), ())))

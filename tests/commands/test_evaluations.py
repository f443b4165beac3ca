"""Each task's judge finds true films of the shapes world right and others wrong; the command runs each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.cli import main
from videogen.commands.evaluate import means
from videogen.commands.evaluations import EVALUATIONS, Case, World
from videogen.commands.evaluations._case import reversed_motion, with_objects
from videogen.data.shapes import parse
from videogen.metrics.tracks import ABSENT, distances, line, tracks
from videogen.tasks import TASKS

CASES = range(4)
WORLD = World(5, 17, 64, 64)
TINY = [
    *("vae.base_channels=8", "vae.encoder_flow=8", "vae.num_res_blocks=1", "vae.latent_channels=4", "weights=null"),
    *("vae.latent_shift=[]", "vae.latent_scale=[]"),
    *("denoiser.dim=24", "denoiser.depth=1", "denoiser.num_heads=2", "text.dim=16", "text.depth=1"),
    *("num_frames=9", "height=32", "width=32", "steps=2"),
]


def there_and_back(film: Tensor, times: int = 1) -> Tensor:
    return torch.cat([film, film.flip(1)[:, 1:]] * times, dim=1)


def dissolved(one: Tensor, other: Tensor, frames: int = 8) -> Tensor:
    share = (torch.arange(1, frames + 1) / (frames + 1)).view(-1, 1, 1)
    return torch.cat([one, torch.lerp(one[:, -1:], other[:, :1], share), other], dim=1)


def cut(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([one, one[:, -1:].expand(-1, 8, -1, -1), other], dim=1)


def repainted(index: int, case: Case) -> Tensor:
    """The clip of a case with the looks that its sentence names."""
    (wanted,) = parse(case.prompt).objects
    scene = with_objects(WORLD.scene(index, alone=True), colour=wanted.colour, shape=wanted.shape)
    return WORLD.film(scene, index)


def around(case: Case, outside: float | None) -> Tensor:
    """What is known, and outside of it the ground or a shade."""
    known, ground = (case.judge.keywords[name] for name in ("known", "ground"))  # type: ignore[attr-defined]
    shade = ground[:, None, None, None] if outside is None else torch.tensor(outside)
    return torch.where(known.mask, known.film[0], shade)


def film(case: Case, name: str) -> Tensor:
    return case.references[name]


def whole(case: Case) -> Tensor:
    kept: Tensor = case.judge.keywords["whole"]  # type: ignore[attr-defined]
    return kept


# task, its knobs, a film that is right and one that isn't, and what fails of that
FILMS: list[tuple[str, dict[str, Any], Any, Any, set[str]]] = [
    (
        "image_to_video",
        {},
        lambda i, case: WORLD.clip(i).video,
        lambda i, case: WORLD.clip(i + 1).video,
        {"kept", "right", "all"},
    ),
    (
        "extend",
        {},
        lambda i, case: WORLD.clip(i, 33).video,
        # a jump of two frames: the velocity stays, the place doesn't
        lambda i, case: torch.cat([film(case, "video"), WORLD.clip(i, 33).video[:, 2:18]], dim=1),
        {"on", "all"},
    ),
    (
        "extend",
        {"direction": "backward"},
        lambda i, case: WORLD.clip(i, 33).video,
        lambda i, case: WORLD.clip(i, 33).video + 0.01,
        {"kept", "all"},
    ),
    (
        "extend",
        {"length": 97},
        lambda i, case: there_and_back(WORLD.film(WORLD.scene(i, alone=True), i), 3),
        lambda i, case: torch.cat([film(case, "video"), WORLD.film(WORLD.scene(i + 1, alone=True), i)], dim=1),
        {"all"},
    ),
    (
        "loop",
        {},
        lambda i, case: there_and_back(film(case, "video"))[:, :-1],
        lambda i, case: film(case, "video"),
        {"pixels", "path", "all"},
    ),
    (
        "connect",
        {},
        lambda i, case: dissolved(film(case, "video"), film(case, "other")),
        lambda i, case: cut(film(case, "video"), film(case, "other")),
        {"to_other", "smooth", "all"},
    ),
    ("edit", {}, repainted, lambda i, case: film(case, "video"), {"colour", "motion", "all"}),
    ("edit", {}, repainted, lambda i, case: repainted(i, case).roll(9, dims=3), {"motion", "all"}),
    ("inpaint", {}, repainted, lambda i, case: film(case, "video"), {"colour", "shape", "right", "all"}),
    ("inpaint", {}, repainted, lambda i, case: repainted(i, case) + 0.01, {"kept", "all"}),
    ("outpaint", {}, lambda i, case: around(case, None), lambda i, case: around(case, 0.9), {"plain", "all"}),
    (
        "interpolate",
        {"factor": 4},
        lambda i, case: whole(case),
        # each given frame until the next
        lambda i, case: whole(case)[:, ::4].repeat_interleave(4, dim=1)[:, :-3],
        {"on", "all"},
    ),
]


@pytest.mark.parametrize(("name", "knobs", "right", "wrong", "fails"), FILMS)
def test_a_judge_tells_right_films_from_wrong_ones(
    name: str, knobs: dict[str, Any], right: Any, wrong: Any, fails: set[str]
) -> None:
    task = TASKS.build(name, **knobs)
    cases = [EVALUATIONS[name](WORLD, index, task) for index in moving()]
    good = means([case.judge(right(index, case)) for index, case in zip(moving(), cases, strict=True)])
    bad = means([case.judge(wrong(index, case)) for index, case in zip(moving(), cases, strict=True)])
    assert {key: good[key] for key in fails} == dict.fromkeys(fails, 1.0)
    assert {key: bad[key] for key in fails} == dict.fromkeys(fails, 0.0)
    assert good["all"] == 1


def moving() -> list[int]:
    """Scenes in which all objects are quick, so that each of them would show that it is elsewhere."""
    found = (
        index
        for index in range(10**6)
        if all(one.speed == "fast" for i in (index, index + 1) for one in WORLD.scene(i).objects)
        and WORLD.scene(index, alone=True).objects[0].speed == "fast"
        and WORLD.scene(index).objects[0].colour != WORLD.scene(index + 1).objects[0].colour
    )
    return [next(found) for _ in CASES]


def test_errors_are_in_pixels_of_64x64() -> None:
    wide = World(3, 17, 96, 160)
    task = TASKS.build("extend", length=25)
    case = EVALUATIONS["extend"](wide, 0, task)
    straight = wide.clip(0, 25).video
    shifted = torch.cat([case.references["video"], straight[:, 17:].roll(3, dims=2)], dim=1)
    # three pixels of 96 are two of 64
    assert case.judge(shifted)["off_px"] == pytest.approx(2.0, abs=0.1)
    assert case.judge(straight)["off_px"] < 0.1


def test_a_way_back_leads_back() -> None:
    scene = WORLD.scene(0)
    assert reversed_motion(reversed_motion(scene)) == scene
    assert {one.direction for one in scene.objects} != {one.direction for one in reversed_motion(scene).objects}


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        *((name, []) for name in sorted(EVALUATIONS) if name not in ("connect", "extend")),
        ("connect", ["task.overlap=4"]),
        ("extend", ["task.overlap=5"]),
        ("extend", ["task.overlap=5", "task.length=67"]),
    ],
)
def test_the_command_judges_each_task(name: str, knobs: list[str], tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    asked = [f"task={name}", "samples=2", "batch_size=2", f"output={output}", *knobs]
    assert main(["evaluate", *asked, *TINY]) == 0
    result = json.loads(output.read_text())
    assert [row["seed"] for row in result["samples"]] == [0, 1]
    assert 0 <= result["mean"]["all"] <= 1


def test_every_task_is_measured() -> None:
    assert set(EVALUATIONS) == set(TASKS.names())


def test_what_can_t_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "samples=0", *TINY]) == 2
    assert "samples=0 is out of range: at least 1" in capsys.readouterr().err


def test_tracks_of_what_isn_t_there() -> None:
    assert tracks(torch.full((3, 5, 64, 64), -1.0)) == {}
    assert distances(None, torch.zeros(3, 2)).tolist() == [ABSENT] * 3
    gone = torch.full((3, 2), torch.nan, dtype=torch.float64)
    assert distances(gone, torch.zeros(3, 2)).tolist() == [ABSENT] * 3
    with pytest.raises(ValueError, match="seen in no frame"):
        line(gone)

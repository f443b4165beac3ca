"""Connection: are both ends kept, and does the object of the one change to that of the other without a cut?"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from videogen.commands.evaluations._case import Case, World, step, steps
from videogen.metrics.tracks import continued, distances, tracks
from videogen.tasks import Task

#: draws of where the other film starts, of which the one nearest to the end of the first film is taken
DRAWS = 8
#: one step that holds more than this share of the whole change from end to end is a cut
CUT = 0.6


def case(world: World, index: int, task: Task) -> Case:
    """Two clips of one object each on one background, the second where the first ends; the sentences of both."""
    first, second = (world.scene(2 * index + i, alone=True) for i in range(2))
    if second.objects[0].colour == first.objects[0].colour:
        second = world.scene(_other(world, 2 * index + 1, first.objects[0].colour), alone=True)
    second = dataclasses.replace(second, background=first.background)
    one = world.film(first, 2 * index)
    end = _centre(one, -1)
    films = [world.film(second, 2 * index + 1, draw=draw) for draw in range(DRAWS)]
    other = min(films, key=lambda film: float((_centre(film, 0) - end).norm()))
    asked = functools.partial(judge, one=one, other=other)
    first_said, second_said = world.described(first, index), world.described(second, index)
    return Case(first_said, asked, {"video": one, "other": other}, {"then": second_said})


def _other(world: World, index: int, colour: str) -> int:
    """The number of the next scene whose object has another colour."""
    while world.scene(index, alone=True).objects[0].colour == colour:
        index += 1
    return index


def _centre(film: Tensor, frame: int) -> Tensor:
    """Where the only object of a film is."""
    (path,) = tracks(film).values()
    return path[frame]


def judge(film: Tensor, *, one: Tensor, other: Tensor) -> dict[str, Any]:
    """What lies between two films (3, T, H, W): whose end its first frames resemble, whose start its last ones do.

    `jump` is the larger of the steps across the two seams, and `largest` the largest of all within what was made, as
    shares of the change from end to end.
    """
    before, after = one.shape[1], film.shape[1] - other.shape[1]
    kept = bool((film[:, :before] == one).all() and (film[:, after:] == other).all())
    end, start = one[:, -1], other[:, 0]
    first, last = film[:, before], film[:, after - 1]
    near = step(first, end) < step(first, start), step(last, start) < step(last, end)
    change = max(step(end, start), 1e-6)
    taken = steps(film[:, before - 1 : after + 1]) / change
    jump = float(max(taken[0], taken[-1]))
    seams = max(off_line(one, first), off_line(other.flip(1), last))
    result = {"kept": kept, "from_first": near[0], "to_other": near[1], "smooth": float(taken.max()) <= CUT}
    figures = {"jump": jump, "largest": float(taken.max()), "seam_px": seams}
    return {**result, **figures, "all": all(result.values())}


def off_line(given: Tensor, frame: Tensor) -> float:
    """How far off the straight line of the only object of a film the next frame (3, H, W) has it."""
    ((colour, path),) = tracks(given).items()
    now = tracks(torch.cat([given, frame[:, None]], dim=1)).get(colour)
    return float(distances(now, continued(path, len(path) + 1))[-1])

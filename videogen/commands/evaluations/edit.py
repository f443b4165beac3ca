"""Edit: is the colour the one that is asked for, and the motion still that of the film?"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from videogen.commands.evaluations._case import Case, World, with_objects
from videogen.data.shapes import COLOURS
from videogen.metrics.shapes import read
from videogen.metrics.tracks import distances, tracks
from videogen.tasks import Task

#: pixels of 64x64, on average, from which on it is another path
OFF = 3.0


def case(world: World, index: int, task: Task) -> Case:
    """A clip of one object, and the sentences that describe it with its colour and with another."""
    scene = world.scene(index, alone=True)
    others = [colour for colour in COLOURS if colour != scene.objects[0].colour]
    colour = str(world.rng(index, 2).choice(others))
    film = world.film(scene, index)
    prompt, of = (world.described(each, index) for each in (with_objects(scene, colour=colour), scene))
    return Case(prompt, functools.partial(judge, given=film, colour=colour), {"video": film}, {"of": of})


def judge(film: Tensor, *, given: Tensor, colour: str) -> dict[str, Any]:
    """Whether the one object of the film (3, T, H, W) has the colour, and goes where that of the given film goes."""
    (before,), reading = read(given).objects, read(film)
    changed = reading.count == 1 and reading.objects[0].colour == colour
    off = float(distances(tracks(film).get(colour), tracks(given)[before.colour]).mean())
    now = next((one for one in reading.objects if one.colour == colour), None)
    same = {key: getattr(now, key, None) == getattr(before, key) for key in ("direction", "shape", "size")}
    motion = same["direction"] and off < OFF
    return {"colour": changed, **same, "off_px": off, "motion": motion, "all": changed and motion}

"""Extension: do position and velocity go on across the seam; and is it still the right object after a minute?"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from videogen.commands.evaluations._case import Case, World, reversed_motion
from videogen.data.shapes import MAX_FRAMES, PACES, Scene
from videogen.metrics.shapes import adherence, read
from videogen.metrics.tracks import ABSENT, continued, distances, line, tracks
from videogen.tasks.extend import Extend

#: films up to this length go straight on, as far as an object stays in view; longer ones go to and fro
STRAIGHT = 2 * MAX_FRAMES
#: pixels of 64x64 by which new frames may lie off the straight line, and off its velocity a frame
OFF, OFF_PACE = 1.5, PACES["slow"] / 2


def case(world: World, index: int, task: Extend) -> Case:
    """The first frames of a longer clip, as many as a sample has; of a long film, the sentence of the way back too."""
    if task.length > STRAIGHT:
        return to_and_fro(world, index)
    length = min(task.length, MAX_FRAMES)
    clip = world.clip(index, length)
    given = clip.video[:, : min(world.num_frames, length - 1)]
    if task.direction == "backward":
        given = clip.video[:, -given.shape[1] :]
    asked = functools.partial(judge, given=given, prompt=clip.text, backward=task.direction == "backward")
    return Case(clip.text, asked, {"video": given}, {"length": length})


def judge(film: Tensor, *, given: Tensor, prompt: str, backward: bool = False) -> dict[str, Any]:
    """How far off the straight line through the given frames the new ones of the film (3, T, H, W) lie.

    Of two objects, the one that is further off counts.
    """
    there = given.shape[1]
    if backward:
        film, given = film.flip(1), given.flip(1)
    found, off, pace = tracks(film), [0.0], [0.0]
    for colour, path in tracks(given).items():
        now = found.get(colour)
        off.append(float(distances(now, continued(path, film.shape[1]))[there:].mean()))
        seen = now is not None and bool(now[there:].isfinite().any())
        pace.append(float((line(now[there:])[1] - line(path)[1]).norm()) if now is not None and seen else ABSENT)
    kept = bool((film[:, :there] == given).all())
    on = max(off) < OFF and max(pace) < OFF_PACE
    shown = adherence(film.flip(1) if backward else film, prompt)
    right = shown["all"]
    return {"kept": kept, "off_px": max(off), "off_px_a_frame": max(pace), "on": on, "right": right, "all": kept and on}


def to_and_fro(world: World, index: int) -> Case:
    """One object whose sentences, sample after sample, lead it forth and back."""
    scene = world.scene(index, alone=True)
    prompt, back = world.described(scene, index), world.described(reversed_motion(scene), index)
    given = world.film(scene, index)
    asked = functools.partial(judge_end, scene=scene, last=world.num_frames)
    return Case(prompt, asked, {"video": given}, {"then": (back,)})


def judge_end(film: Tensor, *, scene: Scene, last: int) -> dict[str, Any]:
    """Whether the last frames of the film (3, T, H, W) show the object that the first ones showed."""
    reading = read(film[:, -last:])
    wanted = scene.objects[0]
    found = reading.objects[0] if reading.count == 1 else None
    same = {key: getattr(found, key, None) == getattr(wanted, key) for key in ("colour", "shape", "size")}
    result = {**same, "count": reading.count == 1, "background": reading.background == scene.background}
    return {**result, "all": all(result.values())}

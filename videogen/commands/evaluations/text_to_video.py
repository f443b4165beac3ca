"""Text to video, and to still images: does a film show what its held-out sentence says, attribute by attribute?"""

from __future__ import annotations

import functools

from videogen.commands.evaluations._case import Case, World
from videogen.metrics.shapes import adherence
from videogen.tasks import Task


def case(world: World, index: int, task: Task) -> Case:
    """The sentence of clip `index`."""
    prompt = world.sentence(index, world.num_frames)
    return Case(prompt, functools.partial(adherence, prompt=prompt))


def still(world: World, index: int, task: Task) -> Case:
    """The sentence of clip `index` without motion."""
    prompt = world.sentence(index, 1)
    return Case(prompt, functools.partial(adherence, prompt=prompt))

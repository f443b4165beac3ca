"""Inpainting: does the rest stay as it is, and does what is made in a box show what the sentence says?"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from videogen.commands.evaluations._case import Case, World, with_objects
from videogen.data.shapes import COLOURS, SHAPES
from videogen.metrics.shapes import adherence
from videogen.tasks import Task

#: pixels around the whole way of both objects that are made anew with it
MARGIN = 3


def case(world: World, index: int, task: Task) -> Case:
    """A clip of one object, a box over its whole way, and a sentence of another object on the same way."""
    scene = world.scene(index, alone=True)
    film, one, rng = world.film(scene, index), scene.objects[0], world.rng(index, 2)
    other = {
        "colour": str(rng.choice([colour for colour in COLOURS if colour != one.colour])),
        "shape": str(rng.choice([shape for shape in SHAPES if shape != one.shape])),
    }
    wanted = with_objects(scene, **other)
    prompt = world.described(wanted, index)
    # the other shape may reach further
    top, left, bottom, right = box = around(torch.cat([film, world.film(wanted, index)], dim=1))
    anew = torch.zeros(film.shape[1:], dtype=torch.bool)
    anew[:, top:bottom, left:right] = True
    sides = world.height, world.width
    shares = tuple(edge / side for edge, side in zip(box, (*sides, *sides), strict=True))
    asked = functools.partial(judge, given=film, anew=anew, prompt=prompt)
    return Case(prompt, asked, {"video": film}, {"box": shares})


def around(film: Tensor) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of all that differs from the plain ground of a film (3, T, H, W), with a margin."""
    # the corner of a clip whose object never touches the edge shows the ground
    differs = (film - film[:, :1, :1, :1]).abs().amax(dim=(0, 1)) > 0
    rows, columns = (differs.any(dim=axis).nonzero().flatten() for axis in (1, 0))
    height, width = differs.shape
    return (
        max(0, int(rows[0]) - MARGIN),
        max(0, int(columns[0]) - MARGIN),
        min(height, int(rows[-1]) + 1 + MARGIN),
        min(width, int(columns[-1]) + 1 + MARGIN),
    )


def judge(film: Tensor, *, given: Tensor, anew: Tensor, prompt: str) -> dict[str, Any]:
    """Whether the film (3, T, H, W) is the given one but where it is made anew, and shows what the sentence names."""
    kept = bool((film == given).all(0)[~anew].all())
    shown = adherence(film, prompt)
    right = shown.pop("all")
    return {"kept": kept, **shown, "right": right, "all": kept and right}

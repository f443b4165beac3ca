"""How well a task is done: for each task what it is given, from held-out clips, and how its film is judged.

An evaluation is a function of the world, the number of a case and the task as it is configured. It gives what to ask
of the pipeline and how to judge what comes back; it never sees the pipeline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from videogen.commands.evaluations import (
    connect,
    edit,
    extend,
    image_to_video,
    inpaint,
    interpolate,
    loop,
    outpaint,
    text_to_video,
)
from videogen.commands.evaluations._case import Case, World
from videogen.tasks import Task

__all__ = ["EVALUATIONS", "Case", "World", "evaluation_of", "with_knobs"]

Evaluation = Callable[[World, int, Any], Case]

EVALUATIONS: Mapping[str, Evaluation] = {
    "text_to_video": text_to_video.case,
    "text_to_image": text_to_video.still,
    "image_to_video": image_to_video.case,
    "extend": extend.case,
    "loop": loop.case,
    "connect": connect.case,
    "edit": edit.case,
    "inpaint": inpaint.case,
    "outpaint": outpaint.case,
    "interpolate": interpolate.case,
}


def evaluation_of(name: str) -> Evaluation:
    """The evaluation of a task.

    Raises:
        ValueError: there is none.
    """
    if name not in EVALUATIONS:
        raise ValueError(f"nothing measures task={name}: choose from: {', '.join(EVALUATIONS)}")
    return EVALUATIONS[name]


def with_knobs(task: Task, knobs: Mapping[str, Any]) -> Task:
    """The task with some of its knobs set by a case."""
    return dataclasses.replace(task, **knobs) if knobs else task  # type: ignore[type-var]

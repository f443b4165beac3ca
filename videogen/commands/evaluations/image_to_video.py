"""Image to video: is the given frame kept, and does the film move as its sentence says?"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from videogen.commands.evaluations._case import Case, World
from videogen.metrics.fidelity import psnr
from videogen.metrics.shapes import adherence
from videogen.tasks import Task

#: dB of the given frame, from which on it counts as kept
KEPT = 30.0


def case(world: World, index: int, task: Task) -> Case:
    """The first frame of a clip, where there is room for the motion that its caption tells."""
    clip = world.clip(index)
    image = clip.video[:, 0]
    return Case(clip.text, functools.partial(judge, image=image, prompt=clip.text), {"image": image})


def judge(film: Tensor, *, image: Tensor, prompt: str) -> dict[str, Any]:
    """Decibels of the first frame of the film (3, T, H, W), and whether what the sentence names is right."""
    decibels = float(psnr(film[:, :1], image[:, None]).clamp(max=99))
    shown = adherence(film, prompt)
    right = shown.pop("all")
    kept = decibels >= KEPT
    return {"psnr": decibels, "kept": kept, **shown, "right": right, "all": kept and right}

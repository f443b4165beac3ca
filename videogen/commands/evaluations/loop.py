"""Loop: is the step from the last frame to the first no larger than those between other neighbours?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videogen.commands.evaluations._case import Case, World, reversed_motion, step, steps
from videogen.metrics.tracks import ABSENT, tracks
from videogen.tasks import Task

#: differences of less than a level of 8 bits, on average, and less than half a pixel are none: they can't be seen
LEVEL, HALF = 2 / 255, 0.5
#: how much one step of an even motion may differ from another by the way in which outlines fall on pixels
UNEVEN = 1.1


def case(world: World, index: int, task: Task) -> Case:
    """A clip to be closed, and the sentence of its way back."""
    scene = world.scene(index)
    prompt, back = world.described(scene, index), world.described(reversed_motion(scene), index)
    return Case(prompt, judge, {"video": world.film(scene, index)}, {"back": back})


def judge(film: Tensor) -> dict[str, Any]:
    """The last step of the film (3, T, H, W), back to its first frame, beside the largest of the others.

    In mean absolute difference of pixels, and in the distance that an object goes; of two, the one that jumps more.
    """
    last, others = step(film[:, -1], film[:, 0]), float(steps(film).max())
    way, ways = 0.0, 0.0
    found = tracks(film)
    for path in found.values():
        way = max(way, float((path[-1] - path[0]).norm().nan_to_num(ABSENT)))
        ways = max(ways, float(torch.diff(path, dim=0).norm(dim=1).nan_to_num(0).max()))
    smooth, still = last <= max(UNEVEN * others, LEVEL), bool(found) and way <= max(UNEVEN * ways, HALF)
    return {
        **{"last_step": last, "largest_step": others, "last_px": way, "largest_px": ways},
        **{"pixels": smooth, "path": still, "all": smooth and still},
    }

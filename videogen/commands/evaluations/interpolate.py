"""Interpolation: are the objects of the frames between where the straight line through the given ones has them?"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from videogen.commands.evaluations._case import Case, World
from videogen.metrics.fidelity import psnr
from videogen.metrics.shapes import adherence
from videogen.metrics.tracks import distances, line, tracks
from videogen.tasks.interpolate import Interpolate

#: pixels of 64x64 by which made frames may lie off the straight line, on average: a given frame shown again is off by
#: as much even if it is slow
OFF = 0.5


def case(world: World, index: int, task: Interpolate) -> Case:
    """Every factor-th frame of a clip, and its caption."""
    gaps = (world.num_frames - 1) // task.factor
    clip = world.clip(index, gaps * task.factor + 1)
    asked = functools.partial(judge, whole=clip.video, factor=task.factor, prompt=clip.text)
    return Case(clip.text, asked, {"video": clip.video[:, :: task.factor]})


def judge(film: Tensor, *, whole: Tensor, factor: int, prompt: str) -> dict[str, Any]:
    """How far the made frames of the film (3, T, H, W) are from the clip that was thinned out.

    Of two objects, the one that is further off counts.
    """
    made = [frame for frame in range(film.shape[1]) if frame % factor]
    found, off = tracks(film), [0.0]
    for colour, path in tracks(whole[:, ::factor]).items():
        start, velocity = line(path)
        time = torch.arange(film.shape[1])[:, None].double() / factor
        off.append(float(distances(found.get(colour), start + time * velocity)[made].mean()))
    kept = bool((film[:, ::factor] == whole[:, ::factor]).all())
    between = float(psnr(film[:, made], whole[:, made]).clamp(max=99))
    on = max(off) < OFF
    right = adherence(film, prompt)["all"]
    return {"kept": kept, "off_px": max(off), "psnr": between, "on": on, "right": right, "all": kept and on}

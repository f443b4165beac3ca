"""Outpainting: is the film within kept, and is what is made around it the ground that it lies on, and nothing else?"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from torch import Tensor

from videogen.commands.evaluations._case import Case, World
from videogen.data.shapes import caption
from videogen.metrics.shapes import adherence
from videogen.tasks import Known, Request
from videogen.tasks.outpaint import Outpaint
from videogen.vae import VAESpec

#: mean absolute difference in [-1, 1] from which on what is around isn't the ground
PLAIN = 0.1


def case(world: World, index: int, task: Outpaint) -> Case:
    """A clip, and its caption without sizes, which aren't the same any more."""
    scene = world.scene(index)
    film = world.film(scene, index)
    unsized = tuple(dataclasses.replace(one, size=None) for one in scene.objects)
    prompt = caption(dataclasses.replace(scene, objects=unsized), world.rng(index, 1))
    known = what_is_known(task, film)
    ground = film[:, 0, 0, 0]
    return Case(prompt, functools.partial(judge, known=known, ground=ground, prompt=prompt), {"video": film})


def what_is_known(task: Outpaint, film: Tensor) -> Known:
    """What the task asks its sampler to keep."""
    listening = _Listening()
    _, frames, height, width = film.shape
    # of the request the task reads the film and its length alone, and nothing of a VAE
    spec = VAESpec(3, 1, 1, True, (), ())
    task.run(Request([""], frames, height, width, spec, video=film[None]), listening)
    assert listening.known is not None
    return listening.known


class _Listening:
    """A sampler that makes nothing, and keeps what it is asked for."""

    known: Known | None = None

    def __call__(self, num_frames: int, *, known: Known | None = None, **_: Any) -> Tensor:
        assert known is not None
        self.known = known
        return known.film

    def check(self, num_frames: int, known: Known) -> None:
        """Nothing is refused."""


def judge(film: Tensor, *, known: Known, ground: Tensor, prompt: str) -> dict[str, Any]:
    """Whether the film (3, T, H, W) holds what is known, plain ground (3,) around it, and what the sentence names."""
    kept = torch.equal(film.where(known.mask, 0), known.film[0].where(known.mask, 0))
    around = float((film - ground[:, None, None, None]).abs()[:, ~known.mask].mean())
    right = adherence(film, prompt)["all"]
    plain = around < PLAIN
    return {"kept": kept, "around": around, "plain": plain, "right": right, "all": kept and plain and right}

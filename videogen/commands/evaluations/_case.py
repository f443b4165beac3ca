"""What evaluations share: one case of a task, and the world of held-out clips that cases are made from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from videogen.data import Clip
from videogen.data.shapes import Attributes, Scene, Shapes, caption, parse, render

OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up", "still": "still"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One film to be made.

    Args:
        prompt: its sentence.
        judge: the film (3, T, H, W) -> what holds of it, and figures.
        references: what else the task is given, by the pipeline's names.
        knobs: of the task, that this case sets.
    """

    prompt: str
    judge: Callable[[Tensor], dict[str, Any]]
    references: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    knobs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class World:
    """Held-out clips of one size.

    Args:
        seed: of the clips.
        num_frames: of one sample.
        height, width: in pixels.
    """

    seed: int
    num_frames: int
    height: int
    width: int

    def clip(self, index: int, num_frames: int | None = None) -> Clip:
        """Held-out clip `index` with its caption; of one or two objects."""
        return self._shapes().clip(index, num_frames or self.num_frames, self.height, self.width)

    def sentence(self, index: int, num_frames: int) -> str:
        """The caption of that clip alone."""
        return self._shapes().sentence(index, num_frames)

    def scene(self, index: int, *, alone: bool = False) -> Scene:
        """What that clip shows; `alone`: the same for an object of its own, where others may hold two."""
        return self._shapes(0.0 if alone else 0.25).scene(index)

    def film(self, scene: Scene, index: int, num_frames: int | None = None, *, draw: int = 0) -> Tensor:
        """A scene (3, T, H, W), placed so that all of it stays in view; another `draw` places it elsewhere."""
        return render(scene, num_frames or self.num_frames, self.height, self.width, self.rng(index, 0, draw))

    def described(self, scene: Scene, index: int) -> str:
        """A sentence that names all there is to be named."""
        for draw in itertools.count():
            text = caption(scene, self.rng(index, 1, draw))
            spec = parse(text)
            if spec.background and all(one.size and (one.speed or one.direction == "still") for one in spec.objects):
                return text
        raise AssertionError("unreachable")

    def rng(self, index: int, *stream: int) -> Generator:
        """A source of draws for a case and a purpose."""
        return np.random.default_rng([self.seed, index, *stream])

    def _shapes(self, two_objects: float = 0.25) -> Shapes:
        return Shapes(split="heldout", seed=self.seed, two_objects=two_objects)


def with_objects(scene: Scene, **changes: Any) -> Scene:
    """The scene, each of its objects changed."""
    return dataclasses.replace(scene, objects=tuple(dataclasses.replace(one, **changes) for one in scene.objects))


def reversed_motion(scene: Scene) -> Scene:
    """The scene on its way back."""
    back: tuple[Attributes, ...] = tuple(
        dataclasses.replace(one, direction=OPPOSITE[one.direction or "still"]) for one in scene.objects
    )
    return dataclasses.replace(scene, objects=back)


def step(one: Tensor, other: Tensor) -> float:
    """Mean absolute difference of two frames (3, H, W) in [-1, 1]."""
    return float((one - other).abs().mean())


def steps(film: Tensor) -> Tensor:
    """Those between neighbours of a film (3, T, H, W), (T - 1,)."""
    return torch.diff(film, dim=1).abs().mean(dim=(0, 2, 3))

"""Procedural captioned clips: one or two coloured shapes that move over a plain background."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np

from videogen.data import DATASETS, Clip
from videogen.data._shapes_geometry import (
    BACKGROUND_RGB,
    COLOUR_RGB,
    JITTER,
    MAX_FRAMES,
    PACES,
    RADII,
    UNIT,
    coverage,
    place,
    render,
    tracks,
)
from videogen.data._shapes_grammar import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SIZES,
    SPEEDS,
    VOCABULARY,
    Attributes,
    Scene,
    Spec,
    caption,
    parse,
    phrases,
)

__all__ = [
    "BACKGROUNDS",
    "BACKGROUND_RGB",
    "COLOURS",
    "COLOUR_RGB",
    "DIRECTIONS",
    "HELD_OUT",
    "MAX_FRAMES",
    "PACES",
    "RADII",
    "SHAPES",
    "SIZES",
    "SPEEDS",
    "UNIT",
    "VOCABULARY",
    "Attributes",
    "Scene",
    "Shapes",
    "Spec",
    "caption",
    "coverage",
    "parse",
    "render",
    "tracks",
]

Triple = tuple[str, str, str]

# a tenth of all (colour, shape, direction), by a formula and not a generator so that no library version can move it:
# each colour twice, each shape three times, each direction two or three times, no colour with one shape twice
HELD_OUT: frozenset[Triple] = frozenset((COLOURS[i % 6], SHAPES[i % 4], DIRECTIONS[2 * i % 5]) for i in range(12))

_ALL = tuple(itertools.product(COLOURS, SHAPES, DIRECTIONS))
_TRIPLES: dict[str, tuple[Triple, ...]] = {
    "train": tuple(triple for triple in _ALL if triple not in HELD_OUT),
    "heldout": tuple(triple for triple in _ALL if triple in HELD_OUT),
}


@DATASETS.register("shapes")
class Shapes:
    """Endless captioned clips of moving shapes, each a function of (seed, split, index) alone.

    Args:
        split: "train" never shows a triple of `HELD_OUT`; "heldout" shows nothing else.
        seed: another seed is another endless set of clips.
        two_objects: share of the scenes that hold two objects.
    """

    def __init__(
        self, *, split: Literal["train", "heldout"] = "train", seed: int = 0, two_objects: float = 0.25
    ) -> None:
        if split not in _TRIPLES:
            raise ValueError(f"split {split!r} doesn't exist: choose 'train' or 'heldout'")
        if seed < 0:
            raise ValueError(f"seed {seed} is negative: use 0 or more")
        if not 0 <= two_objects <= 1:
            raise ValueError(f"two_objects {two_objects} is a share of the scenes: use a number from 0 to 1")
        self.split, self.seed, self.two_objects = split, seed, two_objects

    def clip(self, index: int, num_frames: int, height: int, width: int) -> Clip:
        """Video (3, T, H, W) in [-1, 1] and its caption, which says nothing of motion when there is one frame.

        Raises:
            ValueError: a negative index, more than 33 frames, or a side under 8 pixels.
        """
        video = render(self.scene(index), num_frames, height, width, self._rng(index, "place"))
        return Clip(video, self.sentence(index, num_frames))

    def sentence(self, index: int, num_frames: int) -> str:
        """The caption of clip `index` alone, without rendering it. Raises ValueError for a negative index."""
        return caption(self.scene(index), self._rng(index, "caption"), motion=num_frames > 1)

    def phrases(self, text: str) -> list[str]:
        """The parts of a caption in their order: each object, the word that joins two, the background."""
        return phrases(text)

    def scene(self, index: int) -> Scene:
        """What clip `index` shows; where it is placed depends on the length and size of the clip."""
        rng = self._rng(index, "scene")
        triples = _TRIPLES[self.split]
        first = triples[rng.integers(len(triples))]
        chosen = [first]
        if rng.random() < self.two_objects:
            others = [triple for triple in triples if triple[0] != first[0]]
            chosen.append(others[rng.integers(len(others))])
        speeds = [None if triple[2] == "still" else str(rng.choice(SPEEDS)) for triple in chosen]
        background = str(rng.choice(BACKGROUNDS))
        while True:
            sizes = [str(rng.choice(SIZES)) for _ in chosen]
            radii = tuple(float(RADII[size] * rng.uniform(1 - JITTER, 1 + JITTER)) for size in sizes)
            objects = tuple(
                Attributes(*triple, size=size, speed=speed)
                for triple, size, speed in zip(chosen, sizes, speeds, strict=True)
            )
            scene = Scene(objects, background, radii)
            # what fits the longest clip in a square fits every clip; two small objects always do
            if place(scene, MAX_FRAMES, UNIT, UNIT, rng) is not None:
                return scene

    def _rng(self, index: int, purpose: Literal["scene", "caption", "place"]) -> np.random.Generator:
        if index < 0:
            raise ValueError(f"clip index {index} is negative: use 0 or more")
        stream = ("scene", "caption", "place").index(purpose)
        return np.random.default_rng([self.seed, tuple(_TRIPLES).index(self.split), index, stream])

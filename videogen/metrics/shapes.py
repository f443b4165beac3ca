"""Whether a video of the shapes world shows what its prompt says: read with no learned part."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from videogen.data.shapes import UNIT, Attributes, parse
from videogen.metrics._shapes_fit import SMALL, centroids, motion, shape_and_radius
from videogen.metrics._shapes_segment import as_pixels, background, blobs

__all__ = ["ATTRIBUTES", "Found", "Reading", "adherence", "read", "score"]

ATTRIBUTES = ("colour", "shape", "direction", "size", "speed", "count", "background")


@dataclasses.dataclass(frozen=True)
class Found:
    """One object as it is seen; None is what can't be told.

    Args:
        shape: None when no shape is near.
        direction: None when it moves aslant, or there is one frame.
        speed: None when it stays still, or there is one frame.
        position: mean x and y of its centre over the frames, in pixels.
        radius: in pixels.
    """

    colour: str
    shape: str | None
    direction: str | None
    size: str
    speed: str | None
    position: tuple[float, float]
    radius: float


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a video shows; `count` also holds objects that share a colour, of which `objects` has the largest only."""

    background: str
    objects: tuple[Found, ...]
    count: int


@torch.no_grad()
def read(video: Tensor) -> Reading:
    """What a video (3, T, H, W) in [-1, 1] shows.

    Raises:
        ValueError: another number of dimensions or channels, or values that are not finite.
    """
    pixels = as_pixels(video)
    unit = min(pixels.shape[2:]) / UNIT
    name, ground = background(pixels)
    seen = blobs(pixels, ground)
    return Reading(
        name, tuple(_found(blob.colour, blob.mask, blob.seen, unit) for blob in seen), sum(1 + b.extra for b in seen)
    )


def _found(colour: str, mask: Tensor, seen: Tensor, unit: float) -> Found:
    centres = centroids(mask)
    shape, radius = shape_and_radius(mask[seen], centres[seen], unit)
    direction, speed = motion(centres, seen, unit)
    x, y = centres[seen].mean(dim=0).tolist()
    size = "small" if radius < SMALL else "large"
    return Found(colour, shape, direction, size, speed, (x, y), radius * unit)


def adherence(video: Tensor, prompt: str) -> dict[str, bool]:
    """Whether the video (3, T, H, W) in [-1, 1] shows each attribute that the prompt names, and "all" of them.

    An attribute of two objects holds when it holds for both. Motion is not judged in a video of one frame.

    Raises:
        ValueError: a prompt outside the grammar of the shapes world, or not a video.
    """
    spec, reading = parse(prompt), read(video)
    wanted = [_named(one, motion=video.shape[1] > 1) for one in spec.objects]
    seen: list[Found | None] = [*reading.objects]
    seen += [None] * max(0, len(wanted) - len(seen))
    # whom the prompt means is the pairing that fits best
    matches = [
        [
            {key: getattr(one, key, None) == value for key, value in want.items()}
            for want, one in zip(wanted, order, strict=True)
        ]
        for order in itertools.permutations(seen, len(wanted))
    ]
    best = max(matches, key=lambda match: sum(sum(one.values()) for one in match))
    result = {key: all(one[key] for one in best if key in one) for key in ATTRIBUTES if any(key in one for one in best)}
    result["count"] = reading.count == len(wanted)
    if spec.background is not None:
        result["background"] = reading.background == spec.background
    return {**result, "all": all(result.values())}


def _named(one: Attributes, motion: bool) -> dict[str, str]:
    """The attributes that a sentence names, without its motion for a still image."""
    named = {key: value for key, value in dataclasses.asdict(one).items() if value is not None}
    return named if motion else {key: value for key, value in named.items() if key not in ("direction", "speed")}


def score(videos: Iterable[Tensor], prompts: Sequence[str]) -> dict[str, float]:
    """The share of videos (3, T, H, W) that show each attribute, among those whose prompt names it, and "all" together.

    Attributes that no prompt names are left out; "videos" is how many were read.

    Raises:
        ValueError: no videos, or another number of prompts than of videos.
    """
    marks: dict[str, list[bool]] = {key: [] for key in (*ATTRIBUTES, "all")}
    for video, prompt in zip(videos, prompts, strict=True):
        for key, right in adherence(video, prompt).items():
            marks[key].append(right)
    if not marks["all"]:
        raise ValueError("there is nothing to score: give at least one video and its prompt")
    return {key: sum(held) / len(held) for key, held in marks.items() if held} | {"videos": float(len(marks["all"]))}

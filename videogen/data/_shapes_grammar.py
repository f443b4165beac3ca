"""The sentences of the shapes world: what a scene is made of, its caption, and the caption read back."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "cross")
DIRECTIONS = ("left", "right", "up", "down", "still")
SIZES = ("small", "large")
SPEEDS = ("slow", "fast")
BACKGROUNDS = ("black", "gray", "dark blue", "dark green")

_ADVERBS = {"slow": "slowly", "fast": "quickly"}
_STILL = ("staying still", "that stays still", "not moving")
_HEADINGS = {"left": ("left", "to the left"), "right": ("right", "to the right"), "up": ("up",), "down": ("down",)}


@dataclasses.dataclass(frozen=True)
class Attributes:
    """What one object is, or what a sentence says of it; None is what the sentence leaves open.

    Args:
        colour: one of `COLOURS`.
        shape: one of `SHAPES`.
        direction: one of `DIRECTIONS`.
        size: "small" or "large".
        speed: "slow" or "fast"; None for an object that stays still.
    """

    colour: str
    shape: str
    direction: str | None = None
    size: str | None = None
    speed: str | None = None


@dataclasses.dataclass(frozen=True)
class Spec:
    """All that a caption names: one or two objects, and the background or None."""

    objects: tuple[Attributes, ...]
    background: str | None = None


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene before it is placed in a frame: every attribute is set (a still object alone has no speed).

    Args:
        objects: one or two objects of different colours.
        background: one of `BACKGROUNDS`.
        radii: radius of each object in 1/64 of the frame's shorter side.
    """

    objects: tuple[Attributes, ...]
    background: str
    radii: tuple[float, ...]


def _either(words: tuple[str, ...]) -> str:
    return "|".join(re.escape(word) for word in words)


_HEADING = {phrase: direction for direction, phrases in _HEADINGS.items() for phrase in phrases}
_OBJECT = re.compile(
    rf"a (?:(?P<size>{_either(SIZES)}) )?(?P<colour>{_either(COLOURS)}) (?P<shape>{_either(SHAPES)})"
    rf"(?: (?P<still>{_either(_STILL)})"
    rf"| moving(?: (?P<adverb>{_either(tuple(_ADVERBS.values()))}))? (?P<heading>{_either(tuple(_HEADING))}))?"
)
_BACKGROUND = re.compile(rf"(?P<rest>.*) on a (?P<background>{_either(BACKGROUNDS)}) background")

VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {"a", "and", "on", "background", "moving"}
        | set(COLOURS + SHAPES + SIZES)
        | set(" ".join((*BACKGROUNDS, *_ADVERBS.values(), *_STILL, *_HEADING)).split())
    )
)


def caption(scene: Scene, rng: np.random.Generator, *, motion: bool = True) -> str:
    """A sentence that is true of the scene; size, speed and background are each named half of the time.

    Args:
        rng: draws the phrasing and what is left out.
        motion: name where the objects go; False for a still image.
    """
    text = " and ".join(_phrase(one, rng, motion) for one in scene.objects)
    return f"{text} on a {scene.background} background" if rng.random() < 0.5 else text


def _phrase(one: Attributes, rng: np.random.Generator, motion: bool) -> str:
    words = ["a", one.colour, one.shape]
    if rng.random() < 0.5 and one.size:
        words.insert(1, one.size)
    if not motion or one.direction is None:
        return " ".join(words)
    if one.direction == "still":
        return " ".join((*words, str(rng.choice(_STILL))))
    words.append("moving")
    if rng.random() < 0.5 and one.speed:
        words.append(_ADVERBS[one.speed])
    return " ".join((*words, str(rng.choice(_HEADINGS[one.direction]))))


def phrases(text: str) -> list[str]:
    """The parts of a caption in their order: each object, the word that joins two, the background."""
    parts = re.split(rf"\b(and|on a (?:{_either(BACKGROUNDS)}) background)\b", text)
    return [part.strip() for part in parts if part.strip()]


def parse(text: str) -> Spec:
    """What a caption names, the inverse of `caption`; letter case and extra spaces don't matter.

    Raises:
        ValueError: the sentence is outside the grammar, or names two objects of one colour.
    """
    rest, background = " ".join(text.lower().split()), None
    if found := _BACKGROUND.fullmatch(rest):
        rest, background = found["rest"], found["background"]
    objects = tuple(_attributes(part, text) for part in rest.split(" and "))
    if len(objects) > 2:
        raise ValueError(f"{text!r} names {len(objects)} objects and the shapes world holds 2: leave one out")
    if len({one.colour for one in objects}) < len(objects):
        raise ValueError(f"{text!r} names two {objects[0].colour} objects: give them different colours")
    return Spec(objects, background)


def _attributes(part: str, text: str) -> Attributes:
    found = _OBJECT.fullmatch(part)
    if found is None:
        raise ValueError(
            f"{part!r} in {text!r} is not a sentence of the shapes world: write 'a [small|large] COLOUR SHAPE "
            f"[moving [slowly|quickly] DIRECTION | staying still] [on a BACKGROUND background]' with "
            f"{', '.join(COLOURS)}; {', '.join(SHAPES)}; {', '.join(_HEADING)}; {', '.join(BACKGROUNDS)}"
        )
    speeds = {adverb: speed for speed, adverb in _ADVERBS.items()}
    direction = "still" if found["still"] else _HEADING.get(found["heading"] or "")
    return Attributes(found["colour"], found["shape"], direction, found["size"], speeds.get(found["adverb"] or ""))

"""What a film is made from beside its sentence: pictures, films and a mask, read from files at the film's size."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from videogen.data.excerpt import excerpt
from videogen.data.picture import read_picture
from videogen.data.resample import resampled
from videogen.data.video import Size, open_video


def read_references(config: Mapping[str, Any]) -> dict[str, Any]:
    """The references that the config names, by the pipeline's names for them; says what was resized or resampled.

    Raises:
        VideoError: a file that can't be read.
    """
    size = Size(config["height"], config["width"])
    # a film that gets frames between its own is played as many times as fast
    rate = config["fps"] / config["task"].get("factor", 1)
    found: dict[str, Any] = {}
    if images := read_images(config, size):
        found["image"] = images
    for key in ("video", "other"):
        if config[key] is not None:
            found[key] = read_film(Path(config[key]), size, rate)
    if config["mask"] is not None:
        found["mask"] = read_mask(Path(config["mask"]), size)
    return found


def read_images(config: Mapping[str, Any], size: Size) -> dict[int, Tensor]:
    """The first frame of the film and the last one, as far as the config gives them."""
    images = {}
    for place, key in ((0, "image"), (-1, "last_image")):
        if config[key] is not None:
            images[place], there = read_picture(config[key], size)
            _say_resized(config[key], there, size)
    return images


def read_film(path: Path, size: Size, fps: float) -> Float[Tensor, "3 t h w"]:
    """A film at a size and a frame rate."""
    with open_video(path) as reader:
        frames = torch.cat(list(excerpt(reader, size=size)), dim=1)
        there, rate = Size(reader.height, reader.width), reader.fps
    _say_resized(path, there, size)
    if abs(rate - fps) < 0.01:
        return frames
    film = resampled(frames, rate, fps)
    print(
        f"videogen: {path} of {rate:g} frames a second is resampled to {fps:g}: {film.shape[1]} of its "
        f"{frames.shape[1]} frames",
        file=sys.stderr,
    )
    return film


def read_mask(path: Path, size: Size) -> Bool[Tensor, "h w"]:
    """A picture as a mask: true where it is brighter than gray."""
    picture, there = read_picture(path, size)
    _say_resized(path, there, size)
    return picture.mean(0) > 0


def _say_resized(path: object, there: Size, size: Size) -> None:
    if there != size:
        print(
            f"videogen: {path} of {there.width}x{there.height} is cut and resized to {size.width}x{size.height}",
            file=sys.stderr,
        )

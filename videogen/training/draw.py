"""Which clips a step sees: everything is drawn from (seed, step) alone, so a resumed run goes on as it would have."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator

from videogen.training.settings import TrainSettings

# settings that are one of some words, and those that have a least value
KNOWN = {
    "precision": ("float32", "bfloat16"),
    "export_precision": ("float32", "float16"),
    "reconstruction": ("l1", "l2"),
}
LEAST = {
    "kl_weight": 0,
    "commitment_weight": 0,
    "perceptual": 0,
    "perceptual_frames": 1,
    "discriminator": 0,
    "discriminator_start": 0,
    "discriminator_channels": 1,
}


class Shape(NamedTuple):
    """Length and size of the clips of one batch, in frames and pixels."""

    num_frames: int
    height: int
    width: int


def generator(seed: int, step: int) -> Generator:
    """The source of all randomness of one step."""
    return Generator().manual_seed(seed * 1_000_003 + step)


def draw_shape(settings: TrainSettings, source: Generator) -> Shape:
    """A length and a size, by their weights; images (one frame) come in every size too."""
    frames = settings.num_frames[_weighted(settings.num_frames_weights, source)]
    height, width = settings.sizes[_weighted(settings.sizes_weights, source)]
    return Shape(frames, height, width)


def _weighted(weights: list[float], source: Generator) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=source))


def check_settings(settings: TrainSettings) -> None:
    """Raise ValueError when choices and weights don't pair up, a word is unknown or a number below its least."""
    for name, known in KNOWN.items():
        if getattr(settings, name) not in known:
            raise ValueError(f"train.{name}={getattr(settings, name)!r} is unknown: choose {' or '.join(known)}")
    for name, least in LEAST.items():
        if getattr(settings, name) < least:
            raise ValueError(f"train.{name}={getattr(settings, name)} is too small: give {least} or more")
    for name in ("num_frames", "sizes"):
        choices, weights = getattr(settings, name), getattr(settings, f"{name}_weights")
        if len(choices) != len(weights) or not choices:
            raise ValueError(
                f"train.{name} has {len(choices)} entries and train.{name}_weights {len(weights)}: give as many"
            )

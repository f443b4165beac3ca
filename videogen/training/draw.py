"""Which clips a step sees: everything is drawn from (seed, step) alone, so a resumed run goes on as it would have."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, nn

from videogen.training.settings import TrainSettings


class Shape(NamedTuple):
    """Length and size of the clips of one batch, in frames and pixels."""

    num_frames: int
    height: int
    width: int


def generator(seed: int, step: int) -> Generator:
    """The source of all randomness of one step."""
    return Generator().manual_seed(seed * 1_000_003 + step)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next(module.parameters()).device


def generator_on(source: Generator, device: torch.device) -> Generator:
    """A source for what is drawn on a device: the source itself on the CPU, elsewhere one that it seeds."""
    if device.type == "cpu":
        return source
    return Generator(device).manual_seed(int(torch.randint(2**62, (), generator=source)))


def draw_shape(settings: TrainSettings, source: Generator) -> Shape:
    """A length and a size, by their weights; images (one frame) come in every size too."""
    frames = settings.num_frames[_weighted(settings.num_frames_weights, source)]
    height, width = settings.sizes[_weighted(settings.sizes_weights, source)]
    return Shape(frames, height, width)


def _weighted(weights: list[float], source: Generator) -> int:
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=source))

"""What the autoencoder tests share: the published implementations' numbers, streams put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from seeded import seeded
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"


class Golden(NamedTuple):
    """A published implementation on random weights: what went in and what came out."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    def load(name: str) -> Golden:
        numbers = load_file(FIXTURES / name / "io.safetensors")
        sides = [
            {key.removeprefix(side): value for key, value in numbers.items() if key.startswith(side)}
            for side in ("in.", "out.")
        ]
        config = json.loads((FIXTURES / name / "config.json").read_text())
        shapes = FIXTURES / name / "shapes.json"
        if shapes.exists():
            weights = seeded(json.loads(shapes.read_text()))
        else:
            weights = load_file(FIXTURES / name / "weights.safetensors")
        return Golden(config, weights, *sides)

    return load


@pytest.fixture(scope="session")
def streamed() -> Callable[[Callable[[Iterable[Tensor]], Iterator[Tensor]], Tensor, int], Tensor]:
    def run(stream: Callable[[Iterable[Tensor]], Iterator[Tensor]], clip: Tensor, size: int) -> Tensor:
        """What a stream makes of a clip cut into chunks of `size` frames."""
        return torch.cat(list(stream(clip.split(size, dim=2))), dim=2)

    return run

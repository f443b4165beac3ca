"""What the autoencoder tests share: the published implementations' numbers, random weights, streams put together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from videogen.checkpoints.layout import Layout
from videogen.vae import VAES

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
        return Golden(config, load_file(FIXTURES / name / "weights.safetensors"), *sides)

    return load


@pytest.fixture(scope="session")
def randomised() -> Callable[[nn.Module], nn.Module]:
    def fill(module: nn.Module) -> nn.Module:
        """Every parameter random, at a size that keeps the signal's: norms of one and biases of zero hide faults."""
        source = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, value in module.named_parameters():
                noise = torch.randn(value.shape, generator=source)
                if value.ndim > 1:
                    value.copy_(noise / value[0].numel() ** 0.5)
                else:
                    value.copy_(0.1 * noise + float("norm" in name and name.endswith("weight")))
        return module.eval()

    return fill


@pytest.fixture(scope="session")
def distance() -> Callable[[Tensor, Tensor], float]:
    def largest(got: Tensor, wanted: Tensor) -> float:
        """The largest error, as a part of the largest value wanted."""
        assert got.shape == wanted.shape
        return float((got - wanted).abs().max() / wanted.abs().max())

    return largest


@pytest.fixture(scope="session")
def streamed() -> Callable[[Callable[[Iterable[Tensor]], Iterator[Tensor]], Tensor, int], Tensor]:
    def run(stream: Callable[[Iterable[Tensor]], Iterator[Tensor]], clip: Tensor, size: int) -> Tensor:
        """What a stream makes of a clip cut into chunks of `size` frames."""
        return torch.cat(list(stream(clip.split(size, dim=2))), dim=2)

    return run


@pytest.fixture(scope="session")
def translated() -> Callable[[Layout, nn.Module], nn.Module]:
    def build(layout: Layout, truth: nn.Module) -> nn.Module:
        """Our part with the weights of diffusers'; they come back as they were."""
        published = truth.state_dict()
        knobs = layout.knobs(truth.config, published)
        vae = VAES.build(layout.part, **knobs).to(truth.dtype).eval()
        vae.load_state_dict(layout.to_ours(published, vae, knobs))
        back = layout.to_published(vae.state_dict(), knobs)
        assert back.keys() == published.keys()
        assert all(torch.equal(back[key], value) for key, value in published.items())
        return vae

    return build

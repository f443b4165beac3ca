"""What the U-Net tests share: the published implementations' numbers, weights that a seed makes, a small network."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from seeded import seeded
from torch import Tensor

from videogen.denoiser import Condition
from videogen.kernels import ATTENTION
from videogen.unet.model import UNet

FIXTURES = Path(__file__).parent / "fixtures"
#: a network of all kinds of layers, small: groups of 2 channels, three levels
SMALL = {
    "base_channels": 8,
    "channel_multipliers": (1, 2, 1),
    "num_res_blocks": 1,
    "attention_levels": (True, True, False),
    "head_dim": 4,
    "first_heads": 3,
    "norm_groups": 4,
}
CHANNELS, TEXT_DIM = 3, 6


class Golden(NamedTuple):
    """A published implementation with weights that a seed makes: what went in and what came out, case by case."""

    params: dict[str, Any]
    weights: dict[str, Tensor]
    cases: dict[str, tuple[dict[str, Tensor], Tensor]]


def read_keys(name: str) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = json.loads(gzip.decompress((FIXTURES / name).read_bytes()))
    return found


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    def load(name: str) -> Golden:
        told = json.loads((FIXTURES / name / "config.json").read_text())
        numbers = load_file(FIXTURES / name / "io.safetensors")
        cases = {}
        for case in (key.removeprefix("out.") for key in numbers if key.startswith("out.")):
            start = f"in.{case}."
            inputs = {key.removeprefix(start): value for key, value in numbers.items() if key.startswith(start)}
            cases[case] = inputs, numbers[f"out.{case}"]
        return Golden(told["params"], seeded(read_keys("golden_keys.json.gz")[name]), cases)

    return load


@pytest.fixture(scope="session")
def published_keys() -> dict[str, dict[str, list[int]]]:
    """The names and shapes of all tensors of eight published checkpoints."""
    return read_keys("published_keys.json.gz")


@pytest.fixture(scope="session")
def make_unet() -> Callable[..., UNet]:
    def make(*, random: bool = True, **knobs: Any) -> UNet:
        unet = UNet(CHANNELS, TEXT_DIM, ATTENTION.build("sdpa"), **{**SMALL, **knobs})
        if random:
            # every tensor random: a layer that starts as zero would make any two networks equal
            unet.load_state_dict(seeded({key: tuple(value.shape) for key, value in unet.state_dict().items()}))
        return unet.eval()

    return make


@pytest.fixture(scope="session")
def make_condition() -> Callable[..., Condition]:
    def make(batch: int, latents: Tensor | None = None, *, words: int = 5, masked: bool = True) -> Condition:
        """Text alone, or, for latents that tell the size, everything that a network may take."""
        source = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=source)

        mask = torch.arange(words) < torch.arange(words, words - batch, -1)[:, None].clamp(min=1)
        text = {"text": draw(batch, words, TEXT_DIM), "text_mask": mask if masked else None}
        if latents is None:
            return Condition(**text)
        frames = latents.shape[2]
        return Condition(
            **text,
            fps=torch.arange(8, 8 + batch),
            image=draw(batch, 2 * frames, TEXT_DIM),
            known=draw(*latents.shape),
            known_mask=torch.arange(frames).expand(batch, -1) % 2 == 0,
        )

    return make

"""Published transformers as fixtures: config, weights and numbers of the original code, built through their layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from videogen.checkpoints import Published
from videogen.checkpoints.layout import Layout
from videogen.checkpoints.published import recognise

FIXTURES = Path(__file__).parents[1] / "dit" / "fixtures"


def case(folder: str, name: str) -> tuple[dict[str, Tensor], Tensor]:
    """What went into one case of a fixture, `in.<case>.<input>`, and what came out, `out.<case>.out`."""
    numbers = load_file(FIXTURES / folder / "io.safetensors")
    start = f"in.{name}."
    return {k.removeprefix(start): v for k, v in numbers.items() if k.startswith(start)}, numbers[f"out.{name}.out"]


class Golden(NamedTuple):
    """A published implementation on random weights: what went in and what came out, case by case."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    cases: dict[str, tuple[dict[str, Tensor], Tensor]]


def load(name: str) -> Golden:
    """The fixture of that name; `in.<case>.<input>` and `out.<case>.<output>` are its numbers."""
    numbers = load_file(FIXTURES / name / "io.safetensors")
    cases = {}
    for key, wanted in numbers.items():
        if key.startswith("out."):
            start = f"in.{key.split('.')[1]}."
            given = {key.removeprefix(start): value for key, value in numbers.items() if key.startswith(start)}
            cases[key.split(".")[1]] = given, wanted
    config = json.loads((FIXTURES / name / "config.json").read_text())
    return Golden(config, load_file(FIXTURES / name / "weights.safetensors"), cases)


def built(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> tuple[Layout, dict[str, Any], nn.Module]:
    """The layout that recognises it, all knobs that it tells, and the model with its weights."""
    layout = recognise(config, weights, "the fixture")
    told = layout.knobs(config, weights)
    knobs = {key: value for key, value in told.items() if key != "dit"}
    model = Published(Path("fixture"), layout, knobs, weights, told["dit"]).build()
    return layout, told, model


def error(got: Tensor, wanted: Tensor, where: Tensor | None = None) -> float:
    """The size of the difference as a part of the size of the truth, at the places that count."""
    assert got.shape == wanted.shape
    places = torch.ones_like(wanted) if where is None else where.to(wanted.dtype)
    return float(((got - wanted) * places).norm() / (wanted * places).norm())

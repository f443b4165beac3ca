"""Rotary positions in seconds and pixels, against their definition."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from videogen.dit.positions import POSITIONS
from videogen.dit.rotary import Rotary

CPU = torch.device("cpu")
KNOBS = {"theta": 50.0, "extent": (4.0, 64.0, 128.0), "stride": (2, 8, 16)}


def table(dim: int = 16, heads: int = 2, grid: tuple[int, int, int] = (3, 2, 2), fps: object = 8.0) -> Rotary:
    position = POSITIONS.build("fractional", dim, heads, **KNOBS)
    given = torch.tensor(fps if isinstance(fps, list) else [fps])
    found: Rotary = position.rotary(grid, CPU, given)
    return found


def test_pairs_of_three_axes_alternate_over_all_heads() -> None:
    rotary = table()
    units = torch.zeros(1, 12, 2, 8)
    units[..., ::2] = 1.0
    turned = rotary.turn(units)[0].flatten(1)
    # token 11 stands at the last place of each axis; 16 channels are 2 pairs that stay and 2 an axis
    fractions = [2 * 2 / 8 / 4, 8 / 64, 16 / 128]
    angles = [0.0, 0.0, *(math.pi / 2 * 50.0**i * (2 * x - 1) for i in range(2) for x in fractions)]
    wanted = torch.tensor([value for angle in angles for value in (math.cos(angle), math.sin(angle))])
    # 50 pi / 2 in float64, its cosine in float32
    assert torch.allclose(turned[11], wanted, atol=1e-6)


def test_a_rate_for_all_is_one_table_and_rates_of_their_own_are_several() -> None:
    one, same, two = table(fps=8.0), table(fps=[8.0, 8.0]), table(fps=[8.0, 4.0])
    assert one.cos.shape == same.cos.shape == (12, 2, 8)
    assert two.cos.shape == (2, 12, 2, 8)
    assert torch.equal(two.cos[0], one.cos)
    assert torch.equal(two.sin[1], table(fps=4.0).sin)
    # half the rate is twice as far: the frame at 2 stands where that at 1 does
    assert torch.allclose(one.sin.view(3, 2, 2, 2, 8)[2], two.sin[1].view(3, 2, 2, 2, 8)[1], atol=1e-6)


def test_precision_is_that_of_the_angles() -> None:
    def sines(precision: str) -> Tensor:
        position = POSITIONS.build("fractional", 96, 2, default_fps=25.0, precision=precision)
        found: Tensor = position.rotary((9, 9, 9), CPU).sin
        return found

    error = (sines("float32") - sines("float64")).abs().amax(0).flatten()
    # float32 keeps 24 bits of the fastest pair's 15,708 radians: some 1e-3 are lost, and nothing of the slowest's one
    assert 1e-4 < float(error.max()) < 1e-2
    assert float(error[:6].max()) < 1e-6


# the shape checks of this test run are Python that no graph can hold: a process of its own has none
COMPILE = """
import torch
from videogen.dit.positions import POSITIONS
position = POSITIONS.build("fractional", 16, 2, default_fps=25.0)
def sines(fps):
    return position.rotary((3, 2, 2), torch.device("cpu"), fps).sin
compiled = torch.compile(sines, fullgraph=True, backend="aot_eager")
for fps in (torch.tensor([8.0, 4.0]), None):
    assert torch.equal(compiled(fps).squeeze(0), sines(fps)), fps
"""


@pytest.mark.slow
def test_it_compiles_into_one_graph() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_model_says_what_it_needs_and_refuses_what_cannot_be() -> None:
    assert POSITIONS.build("fractional", 12, 1).conditions == {"fps"}
    with pytest.raises(ValueError, match=r"condition\.fps is missing and positions are in seconds"):
        POSITIONS.build("fractional", 12, 1, default_fps=None).rotary((1, 1, 1), CPU)
    for knobs, said in (
        ({"theta": 0.0}, "theta=0.0"),
        ({"stride": (0, 1, 1)}, r"stride=\(0, 1, 1\)"),
        ({"default_fps": -1.0}, r"default_fps=-1\.0"),
    ):
        with pytest.raises(ValueError, match=rf"{said}.*give numbers above 0"):
            POSITIONS.build("fractional", 12, 1, **knobs)
    with pytest.raises(ValueError, match="dim 10 has less than two pairs"):
        POSITIONS.build("fractional", 10, 1)
    with pytest.raises(ValueError, match="heads of 5 channels, which turn in pairs"):
        POSITIONS.build("fractional", 20, 4)

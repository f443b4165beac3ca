"""Fixed codes of place and time: their numbers by definition, clips of a padded batch, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.denoiser import Condition
from videogen.dit.blocks import BLOCKS, BlockCondition
from videogen.dit.parts import choose
from videogen.dit.positions import POSITIONS

CPU = torch.device("cpu")
GRID = (2, 3, 4)


def code(place: float, channels: int) -> list[float]:
    """Sines, then cosines, one number after another."""
    half = channels // 2
    angles = [place / 10000 ** (index / half) for index in range(half)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def by_definition(row: float, column: float, dim: int) -> Tensor:
    return torch.tensor(code(column, dim // 2) + code(row, dim // 2))


@pytest.mark.parametrize(
    ("knobs", "size", "row", "column"),
    [
        ({}, None, 1.0, 1.0),
        ({"base": 12}, None, 4.0, 3.0),
        ({"base": 12, "scale": 2.0}, None, 2.0, 1.5),
        # the root of 3 * 4 is 3.46, rounded
        ({"base": 0}, None, 1.0, 0.75),
        # 256 x 1024 pixels are as many as 512 x 512
        ({"base": 0, "reference": 256}, (256.0, 1024.0), 0.5, 0.375),
    ],
)
def test_a_token_s_code_is_that_of_its_place(
    knobs: dict[str, Any], size: tuple[float, float] | None, row: float, column: float
) -> None:
    position = POSITIONS.build("sincos", 8, 2, **knobs)
    assert position.conditions == ({"size"} if size else set())
    fields = {"size": torch.tensor([size, size])} if size else {}
    tokens = torch.randn(2, 24, 8)
    added = (position.add(tokens, GRID, None, **fields) - tokens).unflatten(1, GRID)
    for y in range(3):
        for x in range(4):
            wanted = by_definition(y * row, x * column, 8).expand(2, 2, 8)
            # tokens of size 1 were added and taken away again
            assert torch.allclose(added[:, :, y, x], wanted, atol=1e-6)
    assert position.rotary(GRID, CPU) is None


def test_clips_of_one_batch_may_have_other_sizes_in_pixels() -> None:
    position = POSITIONS.build("sincos", 8, 2, reference=256)
    size = torch.tensor([[256.0, 256.0], [512.0, 512.0]])
    codes = position.add(torch.zeros(2, 24, 8), GRID, None, size=size).unflatten(1, GRID)
    assert torch.allclose(codes[0, 0, 1, 1], codes[1, 0, 2, 2], atol=1e-6)
    with pytest.raises(ValueError, match=r"condition\.size is missing and reference=256 needs it"):
        position.add(torch.zeros(2, 24, 8), GRID, None)


def test_a_padded_clip_is_measured_on_its_own_tokens_unless_padding_counts() -> None:
    valid = torch.zeros(1, 2, 3, 4, dtype=torch.bool)
    valid[:, :, 1:, 1:3] = True
    for over_padding in (False, True):
        position = POSITIONS.build("sincos", 8, 2, base=6, over_padding=over_padding)
        padded = position.add(torch.zeros(1, 24, 8), GRID, valid.flatten(1)).unflatten(1, GRID)[:, :, 1:, 1:3]
        alone = position.add(torch.zeros(1, 8, 8), (2, 2, 2), None).unflatten(1, (2, 2, 2))
        assert torch.allclose(padded, alone, atol=1e-6) is not over_padding


def test_time_turns_neighbouring_channels_of_the_whole_head() -> None:
    table = POSITIONS.build("sincos", 8, 2, time="rotary").rotary(GRID, CPU)
    unit = torch.zeros(1, 24, 2, 4)
    unit[..., 2] = 1.0
    turned = table.turn(unit).unflatten(1, GRID)
    for frame in range(2):
        angle = torch.tensor(frame / 10000**0.5)
        wanted = torch.tensor([0.0, 0.0, angle.cos(), angle.sin()]).expand(1, 3, 4, 2, 4)
        assert torch.allclose(turned[:, frame], wanted)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"scale": 0.0}, "scale=0.0"),
        ({"base": -1}, "base=-1"),
        ({"reference": 0}, "reference=0"),
    ],
)
def test_numbers_that_places_can_not_be_counted_in_are_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        POSITIONS.build("sincos", 8, 2, **knobs)


def test_odd_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="dim 10 in 2 heads"):
        POSITIONS.build("sincos", 10, 2)
    with pytest.raises(ValueError, match="dim 12 in 4 heads"):
        POSITIONS.build("sincos", 12, 4, time="rotary")


def temporal(randomised: Any, **knobs: Any) -> Any:
    torch.manual_seed(0)
    parts = choose()
    return randomised(BLOCKS.build("temporal", 8, 2, parts.kit(parts.modulation(8, 8, parts.norm), bias=True), **knobs))


def test_a_code_of_time_is_added_to_the_tokens_first(randomised: Any) -> None:
    tokens, time = torch.randn(2, 24, 8), torch.randn(2, 1, 8)
    condition = BlockCondition(grid=GRID, time=time)
    coded, plain = temporal(randomised, time_code=2.0), temporal(randomised)
    codes = torch.stack([torch.tensor(code(frame / 2.0, 8)) for frame in range(2)]).repeat_interleave(12, 0)
    got, wanted = coded(tokens, None, condition)[0], plain(tokens + codes, None, condition)[0]
    assert torch.allclose(got, wanted, atol=1e-6)
    # a still has no place in time
    still = BlockCondition(grid=(1, 3, 4), time=time)
    assert torch.equal(coded(tokens[:, :12], None, still)[0], plain(tokens[:, :12], None, still)[0])
    assert not torch.equal(plain(tokens[:, :12], None, still)[0], tokens[:, :12])


def test_stills_skip_the_layer_where_it_is_for_videos_alone(randomised: Any) -> None:
    block, time = temporal(randomised, stills=False, time_code=1.0), torch.randn(2, 1, 8)
    tokens = torch.randn(2, 24, 8)
    assert torch.equal(block(tokens[:, :12], None, BlockCondition(grid=(1, 3, 4), time=time))[0], tokens[:, :12])
    # beside a video in a padded batch, too
    valid = torch.ones(2, *GRID, dtype=torch.bool)
    valid[0, 1:] = False
    mixed, _ = block(tokens, None, BlockCondition(grid=GRID, time=time, valid=valid.flatten(1)))
    alone, _ = block(tokens[1:], None, BlockCondition(grid=GRID, time=time[1:]))
    assert torch.equal(mixed[0, :12], tokens[0, :12])
    assert torch.allclose(mixed[1], alone[0], atol=1e-6)


@pytest.mark.parametrize(
    "block", [{"name": "temporal", "time_code": 1.0, "stills": False}, {"name": "stdit", "time_code": 1.0}]
)
def test_a_padded_clip_s_time_starts_with_its_own_first_frame(
    make_dit: Any, make_condition: Any, row: Any, block: dict[str, Any]
) -> None:
    model = make_dit(block, parts={"position": {"name": "sincos"}})
    valid = torch.zeros(2, 3, 4, 6, dtype=torch.bool)
    valid[0, 1:, :2], valid[1, 2, 2:, 2:] = True, True
    cuts = (slice(1, 3), slice(0, 2), slice(0, 6)), (slice(2, 3), slice(2, 4), slice(2, 6))
    latents, timestep, condition = torch.randn(2, 3, 3, 4, 6), torch.rand(2), make_condition(2, valid=valid)
    padded = model(latents, timestep, condition)
    for i, (t, y, x) in enumerate(cuts):
        alone = model(latents[i : i + 1, :, t, y, x], timestep[i : i + 1], row(condition, i))
        assert torch.allclose(padded[i : i + 1, :, t, y, x], alone, atol=1e-5)


def test_a_divisor_of_time_is_above_zero(randomised: Any) -> None:
    with pytest.raises(ValueError, match=r"time_code=0\.0"):
        temporal(randomised, time_code=0.0)
    parts = choose()
    with pytest.raises(ValueError, match=r"time_code=-1\.0"):
        BLOCKS.build("stdit", 8, 2, parts.kit(parts.modulation(8, 8, parts.norm), bias=True), time_code=-1.0)


def test_sides_that_are_no_multiple_of_a_patch_are_filled_up_on_request(make_dit: Any, make_condition: Any) -> None:
    latents, timestep = torch.randn(2, 3, 2, 3, 5), torch.rand(2)
    with pytest.raises(ValueError, match="3 latent rows do not fit a patch of 2"):
        make_dit()(latents, timestep, make_condition(2))
    model = make_dit(fill=True)
    got = model(latents, timestep, make_condition(2))
    filled = torch.nn.functional.pad(latents, (0, 1, 0, 1))
    assert got.shape == latents.shape
    assert torch.equal(got, model(filled, timestep, make_condition(2))[..., :3, :5])
    # a clip of a padded batch is filled up with what is no part of it
    valid = torch.ones(2, 2, 3, 5, dtype=torch.bool)
    assert torch.allclose(model(latents, timestep, make_condition(2, valid=valid)), got, atol=1e-5)


def test_a_default_for_what_is_not_embedded_is_refused(make_dit: Any) -> None:
    with pytest.raises(ValueError, match=r"default_fps=24\.0 is for dit\.time\.scalars=\[fps\]"):
        make_dit(parts={"time": {"name": "sincos", "default_fps": 24.0}})


def test_a_size_that_no_position_asks_for_is_refused(make_dit: Any) -> None:
    with pytest.raises(ValueError, match=r"would ignore condition\.size"):
        make_dit()(torch.randn(1, 3, 2, 4, 4), torch.rand(1), Condition(size=torch.ones(1, 2)))

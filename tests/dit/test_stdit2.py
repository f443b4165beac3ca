"""STDiT2 against the original code of Open-Sora 1.1, which was run on its own for these numbers; weights are drawn."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from dit_goldens import FIXTURES, built, case, error
from torch import Tensor

from videogen.checkpoints.published import families
from videogen.denoiser import DENOISERS, Condition
from videogen.dit.model import DiT
from videogen.dit.parts import choose

FOLDER = FIXTURES / "hpc_stdit2_v1_1"
LAYOUT = families()["stdit2"]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads((FOLDER / "config.json").read_text())


@pytest.fixture(scope="module")
def weights(config: dict[str, Any]) -> dict[str, Tensor]:
    """As they were drawn for the original: in the order of its names, but for the constants of the rotation."""
    knobs = LAYOUT.knobs(config, ())
    sizes = {key: value for key, value in knobs.items() if key != "dit"}
    ours = DENOISERS.build("dit", parts=choose(**knobs["dit"]), **sizes)
    source, drawn = torch.Generator().manual_seed(0), {}
    for name, like in sorted(LAYOUT.to_published(ours.state_dict(), knobs).items()):
        if name == "rope.freqs":
            drawn[name] = like
            continue
        noise = torch.randn(like.shape, generator=source)
        drawn[name] = noise * like[0].numel() ** -0.5 if like.ndim > 1 else 0.2 * noise + float("norm" in name)
    return drawn


@pytest.fixture(scope="module")
def model(config: dict[str, Any], weights: dict[str, Tensor]) -> DiT:
    layout, _, model = built(config, weights)
    assert layout is LAYOUT
    return model


def condition(given: dict[str, Tensor]) -> Condition:
    return Condition(
        text=given["y"][:, 0], text_mask=given["mask"].bool(), fps=given["fps"], size=given["size"].expand(2, 2)
    )


@pytest.mark.parametrize("name", ["plain", "odd", "still", "told"])
@torch.no_grad()
def test_it_equals_the_original(model: DiT, name: str) -> None:
    given, wanted = case(FOLDER.name, name)
    told = given.get("x_mask")
    timestep = given["timestep"] if told is None else torch.where(told, given["timestep"][:, None], 0.0)
    # frames that are known are at time 0; what the original predicts of them sees the size once more, and nobody asks
    where = None if told is None else told[:, None, :, None, None]
    assert error(model(given["x"], timestep, condition(given)), wanted, where) < 1e-5
    if told is not None:
        assert error(model(given["x"], given["timestep"], condition(given)), wanted, where) > 1e-2


def test_every_tensor_goes_back_as_it_came(config: dict[str, Any], weights: dict[str, Tensor], model: DiT) -> None:
    back = LAYOUT.to_published(model.state_dict(), LAYOUT.knobs(config, ()))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())
    assert back["blocks.1.scale_shift_table"].shape == (6, 48)
    assert back["blocks.1.scale_shift_table_temporal"].shape == (3, 48)


@torch.no_grad()
def test_size_length_and_rate_matter_and_the_rate_has_a_default(model: DiT) -> None:
    given, _ = case(FOLDER.name, "plain")
    whole = condition(given)
    wanted = model(given["x"], given["timestep"], whole)
    # 24, as in the case
    assert torch.equal(model(given["x"], given["timestep"], dataclasses.replace(whole, fps=None)), wanted)
    for other in (
        dataclasses.replace(whole, fps=torch.tensor([8.0, 8.0])),
        dataclasses.replace(whole, size=torch.tensor([[48.0, 32.0]] * 2)),
    ):
        assert not torch.allclose(model(given["x"], given["timestep"], other), wanted, atol=1e-3)
    with pytest.raises(ValueError, match=r"condition\.size is missing"):
        model(given["x"], given["timestep"], dataclasses.replace(whole, size=None))


@torch.no_grad()
def test_a_padded_clip_is_told_its_own_length(model: DiT) -> None:
    given, _ = case(FOLDER.name, "plain")
    whole = condition(given)
    valid = torch.ones(2, 3, 4, 6, dtype=torch.bool)
    valid[1, 2:] = False
    padded = model(given["x"], given["timestep"], dataclasses.replace(whole, valid=valid))
    cut = {name: value[1:] for name, value in whole.given().items()}
    alone = model(given["x"][1:, :, :2], given["timestep"][1:], Condition(**cut))
    torch.testing.assert_close(padded[1:, :, :2], alone, rtol=0, atol=1e-5)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dit\.modulation=adaln_sized doesn't go with dit\.block=full3d: use"):
        DiT(3, 10, choose(modulation="adaln_sized"), dim=24, depth=1, num_heads=2)
    with pytest.raises(ValueError, match=r"adaln_sized needs dit\.time\.dim = dim, a multiple of 3, not 32 and 32"):
        DiT(3, 10, choose(block="stdit2", modulation="adaln_sized"), dim=32, depth=1, num_heads=2)
    # another block with this modulation is an ablation
    parts = choose(block="factorized", modulation={"name": "adaln_sized", "default_fps": 8.0})
    assert {"size", "fps"} <= DiT(3, 10, parts, dim=24, depth=1, num_heads=2).conditions

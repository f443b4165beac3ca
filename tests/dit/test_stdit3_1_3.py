"""STDiT3 of Open-Sora 1.3 against its original code: windows that don't divide, frames that are known, stills."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from dit_goldens import FIXTURES, built, case, error
from seeded import seeded
from torch import Tensor

from videogen.checkpoints.published import families
from videogen.denoiser import Condition
from videogen.dit.model import DiT
from videogen.dit.parts import choose

FOLDER = FIXTURES / "hpc_stdit3_v1_3"
LAYOUT = families()["stdit3_1_3"]
CASES = ["i2v", "image", "loop", "odd", "plain", "xmask"]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads((FOLDER / "config.json").read_text())


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return seeded(json.loads((FOLDER / "shapes.json").read_text()))


@pytest.fixture(scope="module")
def model(config: dict[str, Any], weights: dict[str, Tensor]) -> DiT:
    layout, _, model = built(config, weights)
    assert layout is LAYOUT
    return model


def conditioned(given: dict[str, Tensor]) -> Condition:
    batch, mask, known = len(given["x"]), given.get("mask"), {}
    if "cond" in given:
        frames = torch.zeros(batch, given["x"].shape[2], dtype=torch.bool)
        frames[:, given["mask_index"]] = True
        known = {"known": given["cond"], "known_mask": frames}
    return Condition(
        text=given["y"][:, 0],
        text_mask=None if mask is None else mask.bool(),
        fps=given["fps"].expand(batch),
        size=torch.stack([given["height"], given["width"]], -1).expand(batch, 2),
        **known,
    )


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_it_equals_the_original(model: DiT, name: str) -> None:
    given, wanted = case(FOLDER.name, name)
    # their times run to 1000, exact in float64 once they are divided
    timestep, told = given["timestep"].double() / 1000, given.get("x_mask")
    where = None if told is None else told[:, None, :, None, None]
    frames = timestep if told is None else torch.where(told, timestep[:, None], 0.0)
    # what the original predicts of frames that are at time 0 passes the last norm twice, and nobody asks for it
    assert error(model(given["x"], frames, conditioned(given)), wanted, where) < 1e-5


@torch.no_grad()
def test_known_frames_and_what_they_read_show(model: DiT) -> None:
    """Or the test above would hold without them."""
    given, wanted = case(FOLDER.name, "i2v")
    condition, timestep = conditioned(given), given["timestep"].double() / 1000
    blind = dataclasses.replace(condition, known=None, known_mask=None)
    assert error(model(given["x"], timestep, blind), wanted) > 1e-2
    other = dataclasses.replace(condition, text=condition.text + 1)
    kept = model.null_text.clone()
    try:
        model.null_text += 1
        assert error(model(given["x"], timestep, dataclasses.replace(condition)), wanted) > 1e-3
    finally:
        model.null_text.copy_(kept)
    assert error(model(given["x"], timestep, other), wanted) > 1e-2


@torch.no_grad()
def test_what_is_remembered_of_a_text_is_not_taken_for_that_of_none(model: DiT) -> None:
    given, wanted = case(FOLDER.name, "loop")
    condition, timestep = conditioned(given), given["timestep"].double() / 1000
    first, again = (model(given["x"], timestep, condition) for _ in range(2))
    assert torch.equal(first, again)
    assert error(again, wanted) < 1e-5


def test_every_tensor_goes_back_as_it_came(config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    _, knobs, model = built(config, weights)
    back = LAYOUT.to_published(model.state_dict(), knobs)
    # the frequencies, of which there are as many as pairs of channels in a third of a head
    assert back.pop("rope.freqs").shape == (2,)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())


def test_clips_of_one_batch_may_have_other_sizes(model: DiT) -> None:
    """The original takes the size of the first for all."""
    given, _ = case(FOLDER.name, "plain")
    timestep, condition = given["timestep"].double() / 1000, conditioned(given)
    sizes = torch.tensor([[700.0, 300.0], [64.0, 512.0]])
    with torch.no_grad():
        both = model(given["x"], timestep, dataclasses.replace(condition, size=sizes))
        for index in range(2):
            rows = {key: value[index : index + 1] for key, value in condition.given().items()}
            alone = Condition(**rows | {"size": sizes[index : index + 1]})
            one = model(given["x"][index : index + 1], timestep[index : index + 1], alone)
            assert error(both[index : index + 1], one) < 1e-5


def test_what_is_not_implemented_is_refused(config: dict[str, Any], model: DiT) -> None:
    with pytest.raises(ValueError, match="use_spatial_rope=False is not implemented: only True is"):
        LAYOUT.knobs(config | {"use_spatial_rope": False}, ())
    with pytest.raises(ValueError, match=r"kernel_size=\[2, 2, 4\] is not implemented: only windows over all frames"):
        LAYOUT.knobs(config | {"kernel_size": [2, 2, 4]}, ())
    with pytest.raises(ValueError, match=r"read the model.s own text for none: set denoiser\.null_tokens above 0"):
        DiT(4, 8, choose(cross="known_null"), dim=24, depth=1, num_heads=2)
    given, _ = case(FOLDER.name, "i2v")
    condition, timestep = conditioned(given), given["timestep"].double() / 1000
    long = dataclasses.replace(condition, text=torch.randn(2, 8, 16), text_mask=None)
    with pytest.raises(ValueError, match="a text of 8 tokens, and the model's own has 7: shorten it"):
        model(given["x"], timestep, long)
    with pytest.raises(ValueError, match=r"condition\.known is missing"):
        model(given["x"], timestep, dataclasses.replace(condition, known=None))
    with pytest.raises(ValueError, match=r"condition\.known_mask is missing"):
        model(given["x"], timestep, dataclasses.replace(condition, known_mask=None))
    with pytest.raises(ValueError, match="head_dim 8 has no three even thirds"):
        choose(position={"name": "sincos", "time": "thirds"}).position(16, 2)

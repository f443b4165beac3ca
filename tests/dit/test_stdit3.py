"""STDiT3 against the original code of Open-Sora 1.2: frames that are known, odd sizes, stills."""

from __future__ import annotations

import pytest
import torch
from dit_goldens import Golden, built, error, load
from torch import Tensor

from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.published import families
from videogen.denoiser import Condition


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("hpc_stdit3_v1_2")


def conditioned(given: dict[str, Tensor]) -> Condition:
    batch, mask = len(given["x"]), given.get("mask")
    return Condition(
        text=given["y"][:, 0],
        text_mask=None if mask is None else mask.bool(),
        fps=given["fps"].expand(batch),
        size=torch.stack([given["height"], given["width"]], -1).expand(batch, 2),
    )


@pytest.mark.parametrize("case", ["image", "odd", "plain", "xmask"])
def test_it_equals_the_original(golden: Golden, case: str) -> None:
    assert sorted(golden.cases) == ["image", "odd", "plain", "xmask"]
    _, _, model = built(golden.config, golden.weights)
    given, wanted = golden.cases[case]
    # their times run to 1000, exact in float64 once they are divided
    timestep, told = given["timestep"].double() / 1000, given.get("x_mask")
    where = None if told is None else told[:, None, :, None, None]
    frames = timestep if told is None else torch.where(told, timestep[:, None], 0.0)
    with torch.no_grad():
        got, blind = (model(given["x"], times, conditioned(given)) for times in (frames, timestep))
    # what the original predicts of frames that it is told passes the last norm twice, and nobody asks for it
    assert error(got, wanted, where) < 1e-5
    # that frames are told shows in the others, or the line above would hold without it
    assert told is None or error(blind, wanted, where) > 1e-2


def test_every_tensor_goes_back_as_it_came(golden: Golden) -> None:
    layout, knobs, model = built(golden.config, golden.weights)
    assert layout is families()["stdit3"]
    back = layout.to_published(model.state_dict(), knobs)
    assert back.keys() == golden.weights.keys()
    for key, value in golden.weights.items():
        # the frequencies of the rotation are computed anew, in float64
        same = torch.allclose(back[key], value, rtol=1e-6) if key == "rope.freqs" else torch.equal(back[key], value)
        assert same, key


def test_other_frequencies_than_those_of_the_rotation_are_refused(golden: Golden) -> None:
    changed = golden.weights | {"rope.freqs": 2 * golden.weights["rope.freqs"]}
    with pytest.raises(LayoutError, match=r"constants with other values: rope\.freqs"):
        built(golden.config, changed)
    layout, knobs, model = built(golden.config, {k: v for k, v in golden.weights.items() if k != "rope.freqs"})
    assert layout.to_published(model.state_dict(), knobs).keys() == golden.weights.keys()


def test_the_size_is_needed_and_frames_a_second_have_a_default(golden: Golden) -> None:
    _, _, model = built(golden.config, golden.weights)
    latents, timestep, text = torch.randn(1, 4, 2, 4, 4), torch.rand(1), torch.randn(1, 3, 32)
    size = torch.tensor([[32.0, 32.0]])
    with pytest.raises(ValueError, match=r"condition\.size is missing and reference=512 needs it"):
        model(latents, timestep, Condition(text=text))
    with pytest.raises(ValueError, match=r"condition\.size has the shape \(2,\): this model takes \(1, 2\)"):
        model(latents, timestep, Condition(text=text, size=size[0]))
    model.time.default_fps = 24.0
    with torch.no_grad():
        default = model(latents, timestep, Condition(text=text, size=size))
        told = model(latents, timestep, Condition(text=text, size=size, fps=torch.tensor([24.0])))
        other = model(latents, timestep, Condition(text=text, size=size, fps=torch.tensor([8.0])))
    assert torch.equal(default, told)
    assert not torch.allclose(default, other, atol=1e-3)

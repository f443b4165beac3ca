"""Open-Sora-Plan v1.2 and v1.3 against the original code: full and skip-sparse attention, padded and not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dit_goldens import built, error, load
from torch import Tensor

from videogen.checkpoints.published import families
from videogen.denoiser import Condition
from videogen.dit.schedule import Layer, layers

GOLDENS = [
    ("osp_t2v_v1_2", ["image", "nopad", "pad"]),
    ("osp_t2v_v1_3_dense", ["a"]),
    ("osp_t2v_v1_3_skiparse", ["divisible", "image", "ragged_pad"]),
    ("osp_inpaint_v1_3", ["i2v"]),
]


@pytest.mark.parametrize(("name", "cases"), GOLDENS)
def test_it_equals_the_original_at_all_places_that_are_no_padding(name: str, cases: list[str]) -> None:
    golden = load(name)
    layout, knobs, model = built(golden.config, golden.weights)
    assert layout is families()["opensora_plan"]
    assert sorted(golden.cases) == cases
    for given, wanted in golden.cases.values():
        valid, latents = given.get("attention_mask"), given["hidden_states"]
        known: dict[str, Tensor] = {}
        if name == "osp_inpaint_v1_3":
            # the original is given all channels at once, and its mask tells what is not known
            latents, masked, mask = latents.split([8, 8, 4], dim=1)
            known = {"known": masked, "known_mask": 1 - mask}
        condition = Condition(
            **known,
            text=given["encoder_hidden_states"][:, 0],
            text_mask=given["encoder_attention_mask"][:, 0].bool(),
            valid=None if valid is None else valid.bool(),
        )
        with torch.no_grad():
            got = model(latents, given["timestep"], condition)
        assert error(got, wanted, None if valid is None else valid[:, None]) < 1e-5
    back = layout.to_published(model.state_dict(), knobs)
    assert back.keys() == golden.weights.keys()
    assert all(torch.equal(value, golden.weights[key]) for key, value in back.items())


def test_the_layers_of_the_release_are_dense_at_both_ends() -> None:
    config = load("osp_t2v_v1_3_skiparse").config
    found = layers(families()["opensora_plan"].knobs(config | {"num_layers": 32}, {})["layers"])
    pair = [Layer("skiparse", {"mode": mode, "k": 4, "over_padding": True}) for mode in ("single", "group")]
    assert found == [Layer("full3d", {})] * 2 + pair * 14 + [Layer("full3d", {})] * 2
    odd = layers(families()["opensora_plan"].knobs(config | {"num_layers": 5}, {})["layers"])
    assert [layer.knobs.get("mode") for layer in odd] == [None, None, "single", "group", "single"]


def test_places_are_divided_as_the_config_says_or_by_the_trained_size() -> None:
    golden = load("osp_t2v_v1_2")
    knobs = families()["opensora_plan"].knobs
    scales = {"interpolation_scale_t": 1.5, "interpolation_scale_h": 2, "interpolation_scale_w": 1}
    told = golden.config | scales
    assert knobs(told, {})["dit"]["position"]["scale"] == (1.5, 2.0, 1.0)
    untold = golden.config | dict.fromkeys(f"interpolation_scale_{axis}" for axis in "thw")
    sizes = {"sample_size": [90, 160], "sample_size_t": 24}
    assert knobs(untold | sizes, {})["dit"]["position"]["scale"] == (1.5, 3.0, 4.0)
    assert knobs(untold | sizes | {"sample_size_t": 17}, {})["dit"]["position"]["scale"] == (2.0, 3.0, 4.0)


def test_sparse_groups_over_padding_are_a_choice_of_the_release(make_dit: Any, make_condition: Any) -> None:
    """Without it a padded clip is what it is alone; with it the padding shifts the groups."""
    valid = torch.zeros(1, 2, 6, 6, dtype=torch.bool)
    valid[:, :, :6, :4] = True
    latents, timestep = torch.randn(1, 3, 2, 6, 6), torch.rand(1)
    for over_padding in (False, True):
        block = {"name": "skiparse", "mode": "group", "k": 2, "over_padding": over_padding}
        model, condition = make_dit(block), make_condition(1)
        alone = model(latents[..., :4], timestep, condition)
        padded = model(latents, timestep, make_condition(1, valid=valid))[..., :4]
        assert torch.allclose(padded, alone, atol=1e-5) is not over_padding


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_rope": False}, "use_rope=False"),
        ({"patch_size_t": 2}, "patch_size_t=2: only 1 is known"),
        ({"downsampler": "k33_s22"}, "downsampler='k33_s22'"),
    ],
)
def test_settings_that_are_not_implemented_are_refused(change: dict[str, Any], said: str) -> None:
    golden = load("osp_t2v_v1_2")
    with pytest.raises(ValueError, match=said):
        built(golden.config | change, golden.weights)

"""Latte-1 against diffusers, and Open-Sora-Plan v1.0 and v1.1 against the original code: the same weights, loaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import LatteTransformer3DModel
from dit_goldens import built, error, load

from videogen.checkpoints.published import families
from videogen.denoiser import Condition

LATTE: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "cross_attention_dim": 32,
    "attention_bias": True,
    "sample_size": 8,
    "patch_size": 2,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "caption_channels": 12,
    "video_length": 3,
}
# three pairs, no learned sigma, no biases, and a size whose positions are squeezed by 2
OTHER = LATTE | {"num_layers": 3, "out_channels": 4, "attention_bias": False, "sample_size": 128, "video_length": 5}
SIZES = [
    pytest.param(LATTE, (3, 8, 8), id="the trained size"),
    pytest.param(LATTE, (3, 6, 10), id="another size"),
    pytest.param(OTHER, (5, 4, 6), id="another model"),
    pytest.param(OTHER | {"video_length": 1}, (1, 4, 6), id="a still"),
]


def truth(config: dict[str, Any], randomised: Any) -> Any:
    torch.manual_seed(0)
    return randomised(LatteTransformer3DModel(**config))


@pytest.mark.parametrize(("config", "size"), SIZES)
def test_it_equals_diffusers(config: dict[str, Any], size: tuple[int, int, int], randomised: Any) -> None:
    oracle = truth(config, randomised)
    _, _, model = built({**oracle.config, "_class_name": "LatteTransformer3DModel"}, oracle.state_dict())
    latents, text, timestep = torch.randn(2, 4, *size), torch.randn(2, 5, 12), torch.tensor([999, 17])
    with torch.no_grad():
        wanted = oracle(latents, timestep, text).sample
        got = model(latents, timestep, Condition(text=text))
        assert error(got, wanted) < 1e-5


def test_the_text_that_is_masked_out_is_not_read(randomised: Any) -> None:
    oracle = truth(LATTE, randomised)
    _, _, model = built({**oracle.config, "_class_name": "LatteTransformer3DModel"}, oracle.state_dict())
    # diffusers gives a mask as a bias to each frame's text
    latents, text, timestep = torch.randn(1, 4, 3, 8, 8), torch.randn(1, 5, 12), torch.tensor([500])
    mask = torch.tensor([[True, True, True, False, False]])
    with torch.no_grad():
        wanted = oracle(latents, timestep, text, ((~mask) * -10000.0).expand(3, 1, 5)).sample
        assert error(model(latents, timestep, Condition(text=text, text_mask=mask)), wanted) < 1e-5


@pytest.mark.parametrize("config", [LATTE, OTHER])
def test_every_tensor_goes_back_as_it_came(config: dict[str, Any], randomised: Any) -> None:
    oracle = truth(config, randomised)
    layout, knobs, model = built({**oracle.config, "_class_name": "LatteTransformer3DModel"}, oracle.state_dict())
    assert layout is families()["latte"]
    back = layout.to_published(model.state_dict(), knobs)
    assert back.keys() == oracle.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in oracle.state_dict().items())


GOLDENS = [
    ("osp_latte_v1_0", ["image", "nomask", "rect", "sq"]),
    ("osp_latte_v1_1", ["rect", "sq"]),
]


@pytest.mark.parametrize(("name", "cases"), GOLDENS)
def test_it_equals_open_sora_plan(name: str, cases: list[str]) -> None:
    golden = load(name)
    layout, knobs, model = built(golden.config, golden.weights)
    assert layout is families()["latte"]
    assert sorted(golden.cases) == cases
    for given, wanted in golden.cases.values():
        text_mask, valid = given.get("encoder_attention_mask"), given.get("attention_mask")
        condition = Condition(
            text=given["encoder_hidden_states"],
            text_mask=None if text_mask is None else text_mask.bool(),
            valid=None if valid is None else valid.bool(),
        )
        with torch.no_grad():
            got = model(given["hidden_states"], given["timestep"], condition)
        assert error(got, wanted, None if valid is None else valid[:, None]) < 1e-5
    back = layout.to_published(model.state_dict(), knobs)
    # a text of its own that the original never reads either
    assert golden.weights.keys() - back.keys() == {"caption_projection.y_embedding"}
    assert all(torch.equal(value, golden.weights[key]) for key, value in back.items())


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("osp_latte_v1_0", {"video_length": 17}, "time_code=3)"),
        ("osp_latte_v1_1", {"video_length": 17}, "time_code=1)"),
        ("osp_latte_v1_1", {"video_length": 56}, "time_code=3)"),
        ("osp_latte_v1_1", {"interpolation_scale_1d": 2.5}, "time_code=2.5)"),
        ("osp_latte_v1_0", {"sample_size": 64, "video_length": 17}, "time_code=1)"),
    ],
)
def test_frames_are_divided_as_each_release_does(name: str, change: dict[str, Any], code: str) -> None:
    knobs = families()["latte"].knobs(load(name).config | change, {})
    assert code in knobs["layers"]
    assert ("stills=false" in knobs["layers"]) is ("sample_size" not in change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_rope": True}, "use_rope=True"),
        ({"compress_kv_factor": 2}, "compress_kv_factor=2: only 1 is known here"),
        ({"norm_type": "ada_norm"}, "norm_type='ada_norm': only 'ada_norm_single' is known"),
        ({"cross_attention_dim": 40}, "cross_attention_dim=40 differs from the width 48"),
        ({"out_channels": 5}, "out_channels=5: only 4, or 8"),
    ],
)
def test_settings_that_are_not_implemented_are_refused(change: dict[str, Any], said: str) -> None:
    golden = load("osp_latte_v1_1")
    with pytest.raises(ValueError, match=said):
        built(golden.config | change, golden.weights)

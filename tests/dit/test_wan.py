"""Wan's transformers: equal to diffusers' WanTransformer3DModel on the same weights, by both layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from videogen import load
from videogen.checkpoints import read_config, save_published
from videogen.checkpoints.layouts.wan_dit import LAYOUT
from videogen.checkpoints.layouts.wan_dit_original import LAYOUT as ORIGINAL
from videogen.denoiser import Condition
from videogen.dit.model import DiT

TOKENS = 512
T2V = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 3,
    "out_channels": 3,
    "text_dim": 10,
    "freq_dim": 16,
    "ffn_dim": 40,
    "num_layers": 2,
}
# a mask of 4 channels, heads of which time gets more than a third, a patch that is no square
I2V = {
    **T2V,
    "num_attention_heads": 3,
    "attention_head_dim": 16,
    "in_channels": 10,
    "image_dim": 20,
    "added_kv_proj_dim": 48,
    "patch_size": (1, 2, 1),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "t2v": T2V,
    "no norm before text": {**T2V, "cross_attn_norm": False, "patch_size": (2, 1, 2), "num_layers": 1},
    "i2v": I2V,
    # no mask, and a code for each image token
    "two images": {**I2V, "in_channels": 6, "pos_embed_seq_len": 6},
    # Wan 2.2's has no image tokens
    "known latents alone": {**T2V, "in_channels": 10},
}
Translated, Distance = Callable[..., DiT], Callable[[Tensor, Tensor], float]


def conditions(config: dict[str, Any], size: tuple[int, int, int]) -> tuple[Condition, list[Tensor], dict[str, Tensor]]:
    """Ours; theirs, as channels beside the latents and as tokens: text filled up with zeros, images one by one."""
    source = torch.Generator().manual_seed(4)
    text = torch.randn(2, 7, 10, generator=source)
    mask = torch.arange(7) < torch.tensor([7, 3])[:, None]
    filled = torch.zeros(2, TOKENS, 10)
    filled[:, :7] = text * mask[..., None]
    given: dict[str, Tensor] = {"text": text, "text_mask": mask}
    beside, tokens = [], {"encoder_hidden_states": filled}
    if config["in_channels"] > 3:
        given["known"] = torch.randn(2, 3, *size, generator=source)
        beside = [given["known"]]
    if config["in_channels"] == 10:
        given["known_mask"] = torch.rand(2, 4, *size, generator=source) > 0.5
        beside = [given["known_mask"].float(), *beside]
    if "image_dim" in config:
        given["image"] = torch.randn(2, 6, 20, generator=source)
        # with codes of two images it takes each on its own, and puts them together
        images = 2 if "pos_embed_seq_len" in config else 1
        tokens["encoder_hidden_states_image"] = given["image"].reshape(2 * images, 6 // images, 20)
    return Condition(**given), beside, tokens


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_equals_diffusers(translated: Translated, distance: Distance, name: str) -> None:
    config = CONFIGS[name]
    truth = WanTransformer3DModel(**config).eval()
    ours = translated(LAYOUT, truth)
    for size in ((2, 4, 6), (4, 6, 2)):
        latents = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        condition, beside, tokens = conditions(config, size)
        # fractions that a thousand times are whole numbers in float32
        time = torch.tensor([0.625, 0.25])
        wanted = truth(torch.cat([latents, *beside], dim=1), 1000 * time, **tokens).sample
        assert distance(ours(latents, time, condition), wanted) < 1e-5


# Wan 2.2's TI2V has patches of one frame and two rows and columns, and an MLP of another width
TI2V = {**T2V, "num_attention_heads": 3, "attention_head_dim": 16, "ffn_dim": 56, "in_channels": 6, "out_channels": 6}


@pytest.mark.parametrize("config", [T2V, TI2V], ids=["t2v", "ti2v"])
@pytest.mark.parametrize("size", [(3, 4, 6), (1, 2, 2), (5, 6, 2)])
@torch.no_grad()
def test_a_timestep_a_frame_is_one_a_token_there(
    translated: Translated, distance: Distance, config: dict[str, Any], size: tuple[int, int, int]
) -> None:
    """An image is the first frame of Wan 2.2's TI2V, at time 0: its tokens' times are the mask's, times the step's."""
    truth = WanTransformer3DModel(**config).eval()
    ours = translated(LAYOUT, truth)
    condition, _, tokens = conditions(T2V, size)
    latents = torch.randn(2, config["in_channels"], *size, generator=torch.Generator().manual_seed(1))
    unknown = torch.ones(size)
    unknown[0] = 0
    for times in (torch.tensor([0.625, 0.625]), torch.tensor([0.9375, 0.25])):
        # as its pipeline spreads them: every second row and column of the mask is a token
        theirs = torch.stack([(unknown[:, ::2, ::2] * 1000 * time).flatten() for time in times])
        wanted = truth(latents, theirs, **tokens).sample
        frames = times[:, None] * (torch.arange(size[0]) > 0)
        assert distance(ours(latents, frames, condition), wanted) < 1e-5
        # that the image is clean must show, or the line above would hold without it
        assert distance(ours(latents, times, condition), wanted) > 1e-2


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_the_first_release_has_the_same_tensors_under_other_names(
    translated: Translated, tmp_path: Path, name: str
) -> None:
    truth = WanTransformer3DModel(**CONFIGS[name])
    ours = translated(LAYOUT, truth)
    knobs = LAYOUT.knobs(truth.config, {})
    released = ORIGINAL.to_published(ours.state_dict(), knobs)
    # diffusers' own table knows all names but that of the code of image tokens
    codes = released.pop("img_emb.emb_pos", None)
    converted = convert_wan_transformer_to_diffusers(dict(released))
    if codes is not None:
        converted["condition_embedder.image_embedder.pos_embed"] = released["img_emb.emb_pos"] = codes
    assert converted.keys() == truth.state_dict().keys()
    assert all(torch.equal(converted[key], value) for key, value in truth.state_dict().items())

    prefixed = {f"model.diffusion_model.{key}": value for key, value in released.items()}
    save_file(prefixed | {"model.diffusion_model.extra": torch.ones(1)}, tmp_path / "wrong.safetensors")
    save_file(prefixed, tmp_path / "single.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": knobs["num_heads"], "model_type": "t2v"}))
    assert ORIGINAL.knobs({"num_heads": knobs["num_heads"]}, released) == knobs
    again = load(tmp_path / "single.safetensors")
    assert all(torch.equal(again.state_dict()[key], value) for key, value in ours.state_dict().items())
    with pytest.raises(ValueError, match="left over: extra"):
        load(tmp_path / "wrong.safetensors")


# the configs of diffusers' conversion script
W14 = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
W14_I2V = {**W14, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
RELEASES: dict[str, dict[str, Any]] = {
    "wan2_1_t2v_1_3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "wan2_1_t2v_14b": W14,
    "wan2_1_i2v_14b": W14_I2V,
    "wan2_1_flf2v_14b": {**W14_I2V, "pos_embed_seq_len": 514},
    "wan2_2_ti2v_5b": {
        "num_attention_heads": 24,
        "ffn_dim": 14336,
        "num_layers": 30,
        "in_channels": 48,
        "out_channels": 48,
    },
}


def test_a_folder_of_diffusers_is_loaded_and_saved_back(tmp_path: Path) -> None:
    truth = WanTransformer3DModel(**I2V)
    truth.save_pretrained(tmp_path / "transformer")
    ours = load(tmp_path / "transformer")
    save_published(ours, read_config(tmp_path / "transformer"), tmp_path / "back")
    assert read_config(tmp_path / "back") == read_config(tmp_path / "transformer")
    back = load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors")
    assert back.keys() == truth.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in truth.state_dict().items())


@pytest.mark.parametrize("preset", RELEASES)
def test_a_preset_is_its_release(is_release: Callable[..., None], preset: str) -> None:
    with torch.device("meta"):
        truth = WanTransformer3DModel(**RELEASES[preset])
    is_release(preset, LAYOUT, truth)


def test_what_the_published_class_would_ignore_is_refused() -> None:
    full = {**WanTransformer3DModel(**T2V).config}
    for setting in ({"qk_norm": "layer_norm"}, {"qk_norm": None}, {"eps": 1e-5}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is not implemented"):
            LAYOUT.knobs({**full, **setting}, {})
    with pytest.raises(ValueError, match="image_dim=20 and added_kv_proj_dim=None: give both, the second 24"):
        LAYOUT.knobs({**full, "image_dim": 20}, {})
    with pytest.raises(ValueError, match="in_channels=5 are neither 3 nor a mask and twice as many or more"):
        LAYOUT.knobs({**full, "in_channels": 5}, {})

"""The 3D U-Net's published layouts: every key of the real files, and small files there and back in each dialect."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet3DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import videogen
from videogen.checkpoints import save_original, save_published
from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.published import families, read_published, recognise
from videogen.denoiser import DENOISERS
from videogen.kernels import ATTENTION
from videogen.kinds import registry

KEYS = Path(__file__).parent.parent / "unet" / "fixtures" / "published_keys.json.gz"
#: the config of diffusers' folder of ModelScope's network
MODELSCOPE = {
    "_class_name": "UNet3DConditionModel",
    "_diffusers_version": "0.15.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": [*["CrossAttnDownBlock3D"] * 3, "DownBlock3D"],
    "downsample_padding": 1,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 32,
    "up_block_types": ["UpBlock3D", *["CrossAttnUpBlock3D"] * 3],
}
# table of keys -> family, config
TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "diffusers_unet3d": ("unet3d", MODELSCOPE),
    "dynamicrafter_256": ("videocrafter", {}),
    "dynamicrafter_512_1024": ("videocrafter", {}),
    "modelscope_unet": ("modelscope", {}),
    "vc1_i2v_512": ("videocrafter", {}),
    "vc1_t2v_1024_v1": ("videocrafter", {}),
    "vc1_t2v_512_v1": ("videocrafter", {}),
    "vc2_t2v_512": ("videocrafter", {}),
}
SMALL = {
    "latent_channels": 3,
    "text_dim": 10,
    "base_channels": 32,
    "channel_multipliers": (1, 2),
    "num_res_blocks": 1,
    "attention_levels": (False, True),
    "head_dim": 16,
    "first_heads": 8,
    "norm_groups": 32,
    "time_conv": True,
    "relative_positions": 0,
    "use_fps": False,
    "image_attention": False,
    "image_gate": False,
    "image_tokens_per_frame": 0,
    "known_latents": False,
}
IMAGE = {"use_fps": True, "image_attention": True, "image_tokens_per_frame": 16, "known_latents": True}
# family, knobs, prefix of the keys in the file
DIALECTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "modelscope": ("modelscope", SMALL, ""),
    "modelscope, trained further": ("modelscope", SMALL | {"num_res_blocks": 2}, "model.diffusion_model."),
    "videocrafter2": ("videocrafter", SMALL | {"use_fps": True}, "model.diffusion_model."),
    "videocrafter1": (
        "videocrafter",
        SMALL | {"time_conv": False, "relative_positions": 3, "attention_levels": (True, True)},
        "_forward_module.model.diffusion_model.",
    ),
    "one level": ("videocrafter", SMALL | {"channel_multipliers": (1,), "attention_levels": (True,)}, ""),
    "dynamicrafter": ("videocrafter", SMALL | IMAGE, "model.diffusion_model."),
    "dynamicrafter 256": ("dynamicrafter_256", SMALL | IMAGE | {"image_gate": True}, "model.diffusion_model."),
}


def read_keys(name: str) -> dict[str, Tensor]:
    """Tensors without memory, by the names and shapes of a published file."""
    table = json.loads(gzip.decompress(KEYS.read_bytes()))[name]
    with torch.device("meta"):
        return {key: torch.empty(shape) for key, shape in table.items()}


def build(knobs: dict[str, Any]) -> nn.Module:
    unet: nn.Module = DENOISERS.build("unet", attention=ATTENTION.build("sdpa"), **knobs)
    return unet


def load(file: Path, kind: str | None = None) -> Any:
    """Small networks are no preset's: what their files don't tell is warned of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*doesn't say default_fps")
        return videogen.load(file, kind)


def equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("name", TABLES)
def test_every_published_key_maps_and_comes_back(name: str) -> None:
    family, config = TABLES[name]
    tensors = read_keys(name)
    layout = recognise(config, tensors, name)
    assert layout is families()[family]
    knobs = layout.knobs(config, tensors)
    with torch.device("meta"):
        unet = build(knobs)
    back = layout.to_published(layout.to_ours(tensors, unet, knobs), knobs)
    assert {key: value.shape for key, value in back.items()} == {key: value.shape for key, value in tensors.items()}


def test_the_name_that_the_released_file_of_dynamicrafter_256_has_is_known() -> None:
    """Its own code calls the embedding otherwise, and renames it on loading."""
    tensors = {
        key.replace("fps_embedding", "framestride_embed"): v for key, v in read_keys("dynamicrafter_256").items()
    }
    layout = recognise({}, tensors, "")
    assert layout is families()["dynamicrafter_256"]
    knobs = layout.knobs({}, tensors)
    assert knobs == families()["videocrafter"].knobs({}, read_keys("dynamicrafter_256"))
    with torch.device("meta"):
        unet = build(knobs)
    assert layout.to_published(layout.to_ours(tensors, unet, knobs), knobs).keys() == tensors.keys()


@pytest.mark.parametrize("name", DIALECTS)
def test_a_file_is_recognised_and_comes_back_as_it_was(randomised: Any, tmp_path: Path, name: str) -> None:
    family, knobs, prefix = DIALECTS[name]
    unet, file, again = randomised(build(knobs)), tmp_path / "model.safetensors", tmp_path / "again.ckpt"
    save_original(unet, family, knobs, file, prefix=prefix)
    found = read_published(file)
    assert found.layout is families()[family]
    assert found.knobs == knobs
    loaded = load(file)
    assert equal(loaded, unet)
    assert not loaded.training
    save_original(loaded, family, knobs, again, prefix=prefix)
    before, after = load_file(file), torch.load(again, weights_only=True)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert equal(load(again), unet)


@pytest.fixture
def folder(randomised: Callable[[nn.Module], nn.Module], tmp_path: Path) -> tuple[nn.Module, Path]:
    """A small network of diffusers, saved by diffusers."""
    truth = UNet3DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("DownBlock3D", "CrossAttnDownBlock3D"),
        up_block_types=("CrossAttnUpBlock3D", "UpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=10,
        attention_head_dim=16,
    )
    randomised(truth)
    truth.save_pretrained(tmp_path / "unet")
    return truth, tmp_path / "unet"


def test_a_folder_of_diffusers_is_read_and_written(folder: tuple[nn.Module, Path], tmp_path: Path) -> None:
    truth, path = folder
    unet = videogen.load(path)
    config = json.loads((path / "config.json").read_text())
    save_published(unet, config, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == config
    again = UNet3DConditionModel.from_pretrained(tmp_path / "again")
    assert equal(again, truth)
    assert equal(videogen.load(path / "diffusion_pytorch_model.safetensors"), unet)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"act_fn": "gelu"}, "act_fn='gelu' is not implemented: only 'silu' is"),
        ({"norm_eps": 1e-6}, "norm_eps=1e-06 is not implemented"),
        ({"mid_block_scale_factor": 2}, "mid_block_scale_factor=2 is not implemented"),
        ({"out_channels": 8}, "out_channels=8 is not implemented: only 4 is"),
        ({"up_block_types": ["UpBlock3D"] * 2}, "up_block_types=.* is not implemented: only"),
        ({"down_block_types": ["DownBlock2D"] * 2}, "DownBlock2D is not implemented, only CrossAttnDownBlock3D"),
        ({"attention_head_dim": [8, 16]}, "only one number for all levels is implemented"),
        ({"block_out_channels": [32, 48]}, "each must be a multiple of the first"),
    ],
)
def test_a_config_of_what_is_not_implemented_is_refused(
    folder: tuple[nn.Module, Path], changed: dict[str, Any], message: str
) -> None:
    file = folder[1] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(ValueError, match=message):
        videogen.load(folder[1])


def test_of_a_file_with_a_whole_model_one_part_is_asked_for(randomised: Any, tmp_path: Path) -> None:
    unet, vae = randomised(build(SMALL)), randomised(registry("vae").build("framewise", **VAE))
    file = tmp_path / "model.ckpt"
    save_original(unet, "videocrafter", SMALL, tmp_path / "unet.ckpt", prefix="model.diffusion_model.")
    save_original(vae, "sd_original", VAE, tmp_path / "vae.ckpt", prefix="first_stage_model.")
    parts = [torch.load(tmp_path / name, weights_only=True) for name in ("unet.ckpt", "vae.ckpt")]
    beside = {"betas": torch.ones(1000), "cond_stage_model.model.logit_scale": torch.ones(())}
    torch.save({"state_dict": {**parts[0], **parts[1], **beside}, "global_step": 3}, file)
    with pytest.raises(LayoutError, match="holds several parts: say which one, with kind='denoiser' or kind='vae'"):
        videogen.load(file)
    assert equal(load(file, "denoiser"), unet)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*doesn't say latent")
        assert equal(videogen.load(file, "vae"), vae)


def test_what_does_not_fit_is_named_key_by_key(randomised: Any, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_original(randomised(build(SMALL)), "modelscope", SMALL, file)
    tensors = load_file(file)
    del tensors["middle_block.1.norm.bias"]
    tensors["output_blocks.3.4.conv.weight"] = torch.ones(2)
    tensors["out.2.bias"] = torch.ones(5)
    save_file(tensors, file)
    with pytest.raises(LayoutError) as told:
        videogen.load(file)
    for fault in ("missing: middle_block.1.norm.bias", "left over: output_blocks.3.4.conv", "out.2.bias (5,) for (3,)"):
        assert fault in str(told.value)


def test_an_image_model_of_the_same_names_is_no_such_network(tmp_path: Path) -> None:
    """Stable Diffusion's files have the same blocks, but nothing along time."""
    tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(320, 4, 3, 3)}
    save_file(tensors, tmp_path / "sd.safetensors")
    with pytest.raises(LayoutError, match="is of no known family"):
        videogen.load(tmp_path / "sd.safetensors", "denoiser")


VAE = {
    "latent_channels": 4,
    "base_channels": 32,
    "channel_multipliers": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "norm_groups": 32,
    "use_attention": True,
    "use_quant_conv": True,
}

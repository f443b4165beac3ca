"""Checkpoints as they were first released, one file of key names without a config: read, recognised, written back."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderKLLTXVideo, AutoencoderKLWan
from diffusers.loaders.single_file_utils import (
    convert_autoencoder_dc_checkpoint_to_diffusers,
    convert_ldm_vae_checkpoint,
    convert_ltx_vae_checkpoint_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import videogen
from videogen.checkpoints import Published, save_original, save_published
from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.published import families
from videogen.config import ConfigError, build_part, build_parts, build_vae, compose
from videogen.config.untold import untold
from videogen.kinds import registry


class Small(NamedTuple):
    """One architecture, small: its family, its part, knobs, and the prefix that its file may have."""

    family: str
    part: str
    knobs: dict[str, Any]
    prefix: str


WAN = {
    "latent_channels": 6,
    "base_channels": 4,
    "decoder_channels": 4,
    "channel_multipliers": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "time_steps": (False, True, True),
    "shortcuts": False,
    "patch_size": 1,
}
SD = {
    "latent_channels": 4,
    "base_channels": 32,
    "channel_multipliers": (1, 2, 1),
    "num_res_blocks": 1,
    "norm_groups": 32,
    "use_attention": True,
    "use_quant_conv": True,
}
LTX = {
    "latent_channels": 6,
    "patch_size": 2,
    "encoder_widths": (8, 16, 16, 16),
    "encoder_blocks": (2, 1, 1, 2),
    "downsamplers": ("conv", "conv", "none"),
    "decoder_widths": (8, 16, 16, 16),
    "decoder_blocks": (2, 1, 1, 3),
    "upsamplers": (True, True, False),
    "upsample_residual": False,
    "upsample_narrows": False,
    "decoder_causal": False,
    "timestep_conditioning": False,
    "decoder_noise": (),
}
# 0.9.5: the encoder folds, the decoder's upsamplers narrow and it knows the timestep
LTX_FOLDING = LTX | {
    "encoder_widths": (8, 16, 32, 32),
    "downsamplers": ("spatial", "temporal", "spatiotemporal"),
    "decoder_widths": (8, 16, 32),
    "decoder_blocks": (1, 2, 1),
    "upsamplers": (True, True),
    "upsample_residual": True,
    "upsample_narrows": True,
    "timestep_conditioning": True,
}
# 0.9.1: the encoder of the first release, and that decoder with noise
LTX_NOISY = LTX | {
    "decoder_widths": (8, 16, 32),
    "decoder_blocks": (1, 2, 1),
    "upsamplers": (True, True),
    "upsample_residual": True,
    "upsample_narrows": True,
    "timestep_conditioning": True,
    "decoder_noise": (True, True, False),
}
DC = {
    "latent_channels": 4,
    "encoder_widths": (8, 16, 32),
    "encoder_blocks": (1, 2, 1),
    "decoder_widths": (8, 16, 32),
    "decoder_blocks": (2, 1, 1),
    "encoder_attention": 1,
    "decoder_attention": 1,
    "head_dim": 32,
    "qkv_scales": (5,),
    "downsample": "conv",
    "upsample": "interpolate",
    "decoder_batch_norm": False,
    "encoder_shortcut": True,
    "decoder_shortcut": True,
}
# the models of ImageNet: the finest level is a convolution of the pixels that halves them
DC_IMAGENET = DC | {
    "encoder_blocks": (0, 2, 1),
    "decoder_blocks": (0, 1, 1),
    "qkv_scales": (),
    "downsample": "pixel_unshuffle",
    "upsample": "pixel_shuffle",
    "decoder_batch_norm": True,
}
DC_OPEN = DC_IMAGENET | {"decoder_attention": 0, "encoder_shortcut": False, "decoder_shortcut": False}
COGVIDEOX = {
    "latent_channels": 4,
    "base_channels": 32,
    "channel_multipliers": (1, 1, 2),
    "num_res_blocks": 1,
    "norm_groups": 32,
}
HUNYUAN = COGVIDEOX | {"use_attention": True, "latent_scale": (0.476986,) * 4}
WAN_2_2 = WAN | {"decoder_channels": 8, "shortcuts": True, "patch_size": 2, "time_steps": (True, False, True)}
SMALL = {
    "wan-2.1": Small("wan_original", "wan", WAN, ""),
    "wan-short": Small(
        "wan_original",
        "wan",
        WAN | {"channel_multipliers": (2, 1, 2), "num_res_blocks": 1, "time_steps": (True, True)},
        "",
    ),
    "wan-2.2": Small("wan_original", "wan", WAN_2_2, ""),
    "sd": Small("sd_original", "framewise", SD, "first_stage_model."),
    "flux": Small("sd_original", "framewise", SD | {"use_quant_conv": False}, ""),
    "plain": Small("sd_original", "framewise", SD | {"use_attention": False}, "vae."),
    "cogvideox": Small("cogvideox_original", "cogvideox", COGVIDEOX, ""),
    "hunyuan": Small("hunyuan", "hunyuan", HUNYUAN, "vae."),
    "hunyuan-plain": Small("hunyuan", "hunyuan", HUNYUAN | {"use_attention": False}, ""),
    "ltx": Small("ltx_original", "ltx", LTX, "vae."),
    "ltx-folding": Small("ltx_original", "ltx", LTX_FOLDING, ""),
    "ltx-noisy": Small("ltx_original", "ltx", LTX_NOISY, ""),
    "dc-sana": Small("dc_original", "dc", DC, ""),
    "dc-imagenet": Small("dc_original", "dc", DC_IMAGENET, ""),
    "dc-open": Small("dc_original", "dc", DC_OPEN, ""),
}
# what else a file may hold that is no part of the autoencoder
BESIDE = {
    "first_stage_model.": "model.diffusion_model.input_blocks.0.0.weight",
    "vae.": "transformer_blocks.27.scale_shift_table",
}


def random(small: Small) -> nn.Module:
    """The part with every tensor another one."""
    torch.manual_seed(0)
    part: nn.Module = registry("vae").build(small.part, **small.knobs)
    for name, value in part.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if name.startswith("latent_") else value.normal_()
    return part.eval()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], tuple[nn.Module, Path]]:
    def write(name: str) -> tuple[nn.Module, Path]:
        """A small part, and its original file, in a folder with the config of something else."""
        small = SMALL[name]
        part, file = random(small), tmp_path / "original.safetensors"
        save_original(part, small.family, small.knobs, file, prefix=small.prefix)
        if small.prefix in BESIDE:
            save_file({**load_file(file), BESIDE[small.prefix]: torch.ones(2)}, file)
        return part, file

    return write


def equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def load(file: Path) -> Any:
    """Small parts are no preset's: what their files don't tell is warned of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*doesn't say")
        return videogen.load(file)


@pytest.mark.parametrize("name", SMALL)
def test_a_file_is_recognised_by_its_keys_and_comes_back_as_it_was(written, tmp_path: Path, name: str) -> None:
    part, file = written(name)
    small, again = SMALL[name], tmp_path / "again.safetensors"
    loaded = load(file)
    assert type(loaded) is type(part)
    assert equal(loaded, part)
    tensors = load_file(file)
    layout = families()[small.family]
    assert layout.knobs({}, layout.own(tensors)) == {k: v for k, v in small.knobs.items() if k not in layout.untold}
    save_original(loaded, small.family, small.knobs, again, prefix=small.prefix)
    before = {key: value for key, value in tensors.items() if key not in BESIDE.values()}
    after = load_file(again)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_a_pickle_and_what_a_training_run_left_are_read_too(written, tmp_path: Path) -> None:
    part, file = written("sd")
    extra = {"loss.logvar": torch.ones(1), "model_ema.decay": torch.ones(1)}
    tensors = {key.removeprefix("first_stage_model."): value for key, value in load_file(file).items()}
    tensors.pop(BESIDE["first_stage_model."])
    torch.save({"state_dict": tensors | extra, "epoch": 3}, tmp_path / "kl-f8.ckpt")
    assert equal(load(tmp_path / "kl-f8.ckpt"), part)
    save_original(part, "sd_original", SD, tmp_path / "own.pth")
    assert equal(load(tmp_path / "own.pth"), part)
    with pytest.raises(LayoutError, match=r"family 'sdd', file own.pth: choose a family from .*sd_original"):
        save_original(part, "sdd", SD, tmp_path / "own.pth")


def sd_config(small: Small) -> dict[str, Any]:
    widths = tuple(small.knobs["base_channels"] * multiplier for multiplier in small.knobs["channel_multipliers"])
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": small.knobs["num_res_blocks"],
        "latent_channels": small.knobs["latent_channels"],
        "use_quant_conv": small.knobs["use_quant_conv"],
        "use_post_quant_conv": small.knobs["use_quant_conv"],
        "mid_block_add_attention": small.knobs["use_attention"],
    }


def dc_config(small: Small) -> dict[str, Any]:
    knobs, batch = small.knobs, small.knobs["decoder_batch_norm"]
    config: dict[str, Any] = {
        "latent_channels": knobs["latent_channels"],
        "downsample_block_type": knobs["downsample"],
        "upsample_block_type": knobs["upsample"],
        "decoder_norm_types": ("batch_norm", "batch_norm", "rms_norm") if batch else "rms_norm",
        "decoder_act_fns": ("relu", "relu", "silu") if batch else "silu",
    }
    for half in ("encoder", "decoder"):
        config[f"{half}_block_types"] = ("ResBlock", "ResBlock", "EfficientViTBlock")
        config[f"{half}_block_out_channels"] = knobs[f"{half}_widths"]
        config[f"{half}_layers_per_block"] = knobs[f"{half}_blocks"]
        config[f"{half}_qkv_multiscales"] = ((), (), knobs["qkv_scales"])
    return config


def wan_config(small: Small) -> dict[str, Any]:
    return {"base_dim": 4, "z_dim": 6, "latents_mean": [0.0] * 6, "latents_std": [1.0] * 6}


ORACLES: dict[str, tuple[str, type[nn.Module], Callable[[Small], dict[str, Any]], Callable[..., dict[str, Tensor]]]] = {
    "sd": ("sd", AutoencoderKL, sd_config, convert_ldm_vae_checkpoint),
    "flux": ("sd", AutoencoderKL, sd_config, convert_ldm_vae_checkpoint),
    "plain": ("sd", AutoencoderKL, sd_config, convert_ldm_vae_checkpoint),
    "wan-2.1": ("wan", AutoencoderKLWan, wan_config, convert_wan_vae_to_diffusers),
    "dc-sana": ("dc", AutoencoderDC, dc_config, convert_autoencoder_dc_checkpoint_to_diffusers),
    "dc-imagenet": ("dc", AutoencoderDC, dc_config, convert_autoencoder_dc_checkpoint_to_diffusers),
}


@pytest.mark.parametrize("name", ORACLES)
def test_diffusers_converts_it_to_its_own_layout(written, name: str) -> None:
    """What we write as the original is to diffusers what we write as diffusers', tensor for tensor."""
    part, file = written(name)
    family, truth_class, config_of, convert = ORACLES[name]
    config = config_of(SMALL[name])
    truth = truth_class(**config)
    truth.load_state_dict(convert(load_file(file), config=truth.config), strict=True)
    ours = families()[family].to_published(part.state_dict(), SMALL[name].knobs)
    theirs = truth.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize("preset", ["ltx_0_9_0_vae", "ltx_0_9_1_vae", "ltx_0_9_5_vae"])
def test_diffusers_converts_ltx_video_to_its_own_layout(preset: str) -> None:
    """Diffusers knows a release by its widths, so at full size; only names change, so no memory is needed."""
    vae, knobs = full_size(preset)
    original = families()["ltx_original"].to_published(vae.state_dict(), knobs)
    converted = convert_ltx_vae_checkpoint_to_diffusers({f"vae.{key}": value for key, value in original.items()})
    names = {layout: families()[layout].published_keys(vae.state_dict(), knobs) for layout in ("ltx", "ltx_original")}
    assert len(converted) == len(original)
    for key in vae.state_dict():
        assert converted[names["ltx"][key][0]] is original[names["ltx_original"][key][0]], key
    if preset == "ltx_0_9_0_vae":
        with torch.device("meta"):
            AutoencoderKLLTXVideo().load_state_dict(converted, strict=True, assign=True)


# names as the authors' own code has them, where diffusers' package has no conversion to hold ours against
NAMES = {
    "wan-2.2": {
        "conv1.weight": (12, 12, 1, 1, 1),
        "conv2.bias": (6,),
        "encoder.conv1.weight": (4, 12, 3, 3, 3),
        "encoder.downsamples.0.downsamples.1.residual.0.gamma": (4, 1, 1, 1),
        "encoder.downsamples.0.downsamples.2.resample.1.weight": (4, 4, 3, 3),
        "encoder.downsamples.0.downsamples.2.time_conv.weight": (4, 4, 3, 1, 1),
        "encoder.downsamples.1.downsamples.0.shortcut.weight": (8, 4, 1, 1, 1),
        "encoder.downsamples.3.downsamples.1.residual.6.bias": (16,),
        "encoder.middle.1.to_qkv.weight": (48, 16, 1, 1),
        "encoder.head.2.weight": (12, 16, 3, 3, 3),
        "decoder.middle.1.norm.gamma": (32, 1, 1),
        "decoder.upsamples.0.upsamples.2.residual.2.weight": (32, 32, 3, 3, 3),
        "decoder.upsamples.0.upsamples.3.time_conv.weight": (64, 32, 3, 1, 1),
        "decoder.upsamples.2.upsamples.0.shortcut.weight": (16, 32, 1, 1, 1),
        "decoder.upsamples.3.upsamples.0.residual.3.gamma": (8, 1, 1, 1),
        "decoder.head.0.gamma": (8, 1, 1, 1),
    },
    "cogvideox": {
        "encoder.conv_in.conv.weight": (32, 3, 3, 3, 3),
        "encoder.down.0.block.0.norm1.weight": (32,),
        "encoder.down.0.downsample.conv.weight": (32, 32, 3, 3),
        "encoder.down.2.block.0.nin_shortcut.weight": (64, 32, 1, 1, 1),
        "encoder.mid.block_2.conv2.conv.bias": (64,),
        "encoder.norm_out.weight": (64,),
        "encoder.conv_out.conv.weight": (8, 64, 3, 3, 3),
        "decoder.mid.block_1.norm1.norm_layer.weight": (64,),
        "decoder.mid.block_1.norm1.conv_y.conv.weight": (64, 4, 1, 1, 1),
        "decoder.up.2.block.1.norm2.conv_b.conv.bias": (64,),
        "decoder.up.2.upsample.conv.weight": (64, 64, 3, 3),
        "decoder.up.1.block.0.nin_shortcut.weight": (32, 64, 1, 1, 1),
        "decoder.up.0.block.1.conv1.conv.weight": (32, 32, 3, 3, 3),
        "decoder.norm_out.conv_b.conv.weight": (32, 4, 1, 1, 1),
    },
    "ltx-noisy": {
        "decoder.up_blocks.0.res_blocks.0.scale_shift_table": (4, 32),
        "decoder.up_blocks.1.conv.conv.weight": (128, 32, 3, 3, 3),
        "decoder.up_blocks.2.res_blocks.1.per_channel_scale1": (16, 1, 1),
        "decoder.up_blocks.2.time_embedder.timestep_embedder.linear_1.weight": (64, 256),
        "decoder.up_blocks.4.res_blocks.0.per_channel_scale2": (8, 1, 1),
        "decoder.last_scale_shift_table": (2, 8),
        "decoder.timestep_scale_multiplier": (),
    },
    "dc-open": {
        "encoder.project_in.conv.conv.weight": (4, 3, 3, 3),
        "encoder.stages.1.op_list.0.main.conv1.conv.bias": (16,),
        "encoder.stages.1.op_list.2.main.conv.conv.weight": (8, 16, 3, 3),
        "encoder.stages.2.op_list.0.context_module.main.proj.norm.bias": (32,),
        "encoder.stages.2.op_list.0.local_module.main.inverted_conv.conv.weight": (256, 32, 1, 1),
        "encoder.project_out.op_list.0.conv.bias": (4,),
        "decoder.project_in.conv.weight": (32, 4, 3, 3),
        "decoder.stages.1.op_list.1.main.conv2.norm.running_mean": (16,),
        "decoder.project_out.op_list.0.weight": (16,),
        "decoder.project_out.op_list.2.conv.conv.weight": (12, 16, 3, 3),
    },
    "hunyuan": {
        "vae.encoder.down_blocks.0.downsamplers.0.conv.conv.weight": (32, 32, 3, 3, 3),
        "vae.encoder.mid_block.attentions.0.to_out.0.weight": (64, 64),
        "vae.quant_conv.weight": (8, 8, 1, 1, 1),
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_its_names_and_shapes_are_the_authors(written, name: str) -> None:
    _, file = written(name)
    shapes = {key: tuple(value.shape) for key, value in load_file(file).items()}
    assert {key: shapes.get(key) for key in NAMES[name]} == NAMES[name]


def full_size(preset: str) -> tuple[nn.Module, dict[str, Any]]:
    """A preset's autoencoder without memory for its weights, and its knobs."""
    node = compose("reconstruct", [f"model={preset}"])["vae"]
    with torch.device("meta"):
        part: nn.Module = build_part("vae", node)
    return part, node


# preset -> family of the original file, and the presets of the same architecture, which no file tells apart
FULL = {
    "wan2_1_vae": ("wan_original", []),
    "wan2_2_vae": ("wan_original", []),
    "cogvideox_5b_vae": ("cogvideox_original", ["cogvideox_2b_vae"]),
    "sdxl_vae": ("sd_original", ["sd_vae"]),
    "flux_vae": ("sd_original", ["sd3_vae"]),
    "ltx_0_9_0_vae": ("ltx_original", []),
    "ltx_0_9_1_vae": ("ltx_original", []),
    "ltx_0_9_5_vae": ("ltx_original", []),
    "dc_ae_f32c32_sana_vae": ("dc_original", []),
    "dc_ae_lite_f32c32_sana_vae": ("dc_original", []),
    "dc_ae_f32c128_1_5_vae": ("dc_original", []),
    "dc_ae_f64c128_1_5_vae": ("dc_original", []),
    "dc_ae_f128c512_mix_vae": ("dc_original", ["dc_ae_f128c512_in_vae"]),
    "hunyuan_vae": ("hunyuan", []),
    "mochi_vae": ("mochi_original", []),
    "opensora_1_3_vae": ("opensora_vae_1_3", []),
}


@pytest.mark.parametrize("preset", FULL)
def test_what_a_file_does_not_tell_is_the_presets(preset: str) -> None:
    """The shapes of a release's file tell the preset's knobs; the others come from it, if it is the only one."""
    part, node = full_size(preset)
    family, others = FULL[preset]
    layout = families()[family]
    tensors = layout.to_published(part.state_dict(), node)
    assert [name for name, one in families().items() if one.recognise({}, tensors)] == [family]
    found = Published(Path("file"), layout, layout.knobs({}, tensors), tensors)
    knobs = {**node, **found.knobs}
    assert {key: value for key, value in knobs.items() if listed(value) != listed(node[key])} in ({}, all_scales(knobs))
    if others:
        several = ".*".join(sorted([preset, *others]))
        with pytest.warns(UserWarning, match=f"doesn't say latent_.*{several}.*model=<preset>"):
            agreed = untold(found)
    else:
        agreed = untold(found)
        assert set(agreed) == set(layout.untold)
    assert all(listed(value) == listed(node[key]) for key, value in agreed.items())


def listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def all_scales(knobs: dict[str, Any]) -> dict[str, Any]:
    """HunyuanVideo's layout writes the one scale of its preset out for each channel."""
    return {"latent_scale": knobs["latent_scale"]}


def test_the_autoencoder_of_a_config_takes_a_published_file(written, tmp_path: Path) -> None:
    part, file = written("wan-2.1")
    sizes = ["vae=wan", "vae.latent_channels=6", "vae.base_channels=4", "vae.decoder_channels=4"]
    statistics = ["vae.latent_shift=[1,2,3,4,5,6]", "vae.latent_scale=[0.5]"]
    vae = build_vae(compose("reconstruct", ["model=null", *sizes, *statistics, f"weights={file}"]))
    assert equal(vae, part)
    # the file says nothing of these
    assert (vae.spec.shift, vae.spec.scale) == ((1, 2, 3, 4, 5, 6), (0.5,) * 6)
    with pytest.raises(LayoutError, match=r"of another 'wan' .*base_channels: 4 there, 8 asked for"):
        build_vae(compose("reconstruct", ["model=null", *sizes, "vae.base_channels=8", f"weights={file}"]))
    with pytest.raises(LayoutError, match="are of vae 'wan', not of 'wavelet': choose vae=wan"):
        build_vae(compose("reconstruct", ["model=null", f"weights={file}"]))
    # where a model goes on from a checkpoint, its parts are folders
    with pytest.raises(ConfigError, match="has no folder called vae, denoiser, text"):
        build_parts(compose("train", ["model=null", *sizes, f"weights={file}"]))


def test_a_folder_of_diffusers_serves_too_and_its_statistics_must_be_the_same(tmp_path: Path) -> None:
    knobs = WAN | {"latent_shift": (0.5,) * 6, "latent_scale": (1 / 3,) * 6}
    part = random(Small("wan", "wan", knobs, ""))
    config = {
        **{"_class_name": "AutoencoderKLWan", "base_dim": 4, "z_dim": 6, "dim_mult": [1, 2, 4, 4]},
        **{"num_res_blocks": 2, "temperal_downsample": [False, True, True]},
        **{"latents_mean": [0.5] * 6, "latents_std": [3.0] * 6},
    }
    save_published(part, config, tmp_path / "Wan" / "vae")
    (tmp_path / "Wan" / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    sizes = ["model=null", "vae=wan", "vae.latent_channels=6", "vae.base_channels=4", "vae.decoder_channels=4"]
    given = [*sizes, "vae.latent_shift=[0.5]", "vae.latent_scale=[0.3333333]"]
    for place in (tmp_path / "Wan", tmp_path / "Wan" / "vae"):
        assert equal(build_vae(compose("reconstruct", [*given, f"weights={place}"])), part)
    with pytest.raises(LayoutError, match=re.escape("latent_shift: (0.5, 0.5, 0.5, 0.5, 0.5, 0.5) there, [] asked")):
        build_vae(compose("reconstruct", [*sizes, "vae.latent_scale=[0.3333333]", f"weights={tmp_path / 'Wan'}"]))
    with pytest.raises(ConfigError, match="is a published checkpoint: train from a folder"):
        build_parts(compose("train", [*given, f"weights={tmp_path / 'Wan'}"]))

"""Presets of published autoencoders: each composes, and is what its release is, in knobs, tensors and size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLAllegro,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLWan,
)
from torch import nn

from videogen.checkpoints import Published
from videogen.checkpoints.published import families
from videogen.config import build_part, compose
from videogen.config.files import presets

NAMES = sorted(name for name in presets("model") if name.endswith("_vae"))

# the configs that diffusers' conversion scripts give each release; what they leave out are the class's defaults
SD = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
SD3 = {**SD, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
WAN_2_2_MEAN = [
    *(-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891),
    *(0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502),
    *(-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723),
    *(-0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
]
WAN_2_2_STD = [
    *(0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901),
    *(0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659),
    *(0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944),
    *(0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
]
WAN_2_2 = {
    "base_dim": 160,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "decoder_base_dim": 256,
    "scale_factor_spatial": 16,
    "patch_size": 2,
    "latents_mean": WAN_2_2_MEAN,
    "latents_std": WAN_2_2_STD,
}
LTX_0_9_1 = {
    "decoder_block_out_channels": (256, 512, 1024),
    "decoder_layers_per_block": (5, 6, 7, 8),
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (True, True, True, False),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2,) * 3,
    "timestep_conditioning": True,
}
LTX_0_9_5 = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "layers_per_block": (4, 6, 6, 2, 2),
    "spatio_temporal_scaling": (True,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "decoder_block_out_channels": (256, 512, 1024),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2,) * 3,
    "timestep_conditioning": True,
}
SANA: dict[str, Any] = {
    "latent_channels": 32,
    "encoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
    "decoder_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3,
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "encoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "decoder_qkv_multiscales": ((), (), (), (5,), (5,), (5,)),
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "downsample_block_type": "conv",
    "upsample_block_type": "interpolate",
    "scaling_factor": 0.41407,
}
# after the authors' config of dc-ae-lite-f32c32-sana-1.1: a decoder of residual blocks alone
SANA_LITE = {
    **SANA,
    "decoder_block_types": "ResBlock",
    "decoder_qkv_multiscales": ((),) * 6,
    "decoder_layers_per_block": (0, 3, 5, 4, 4, 4),
    "upsample_block_type": "pixel_shuffle",
    "decoder_conv_act_fn": "silu",
}


def imagenet(channels: int, widths: tuple[int, ...], scale: float) -> dict[str, Any]:
    """The config of a DC-AE of ImageNet or of mixed data."""
    attending = len(widths) - 3
    return {
        "latent_channels": channels,
        **{f"{half}_block_out_channels": widths for half in ("encoder", "decoder")},
        **{f"{half}_qkv_multiscales": ((),) * len(widths) for half in ("encoder", "decoder")},
        **{
            f"{half}_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * attending
            for half in ("encoder", "decoder")
        },
        "encoder_layers_per_block": (0, 4, 8, *(2,) * attending),
        "decoder_layers_per_block": (0, 5, 10, *(2,) * attending),
        "decoder_norm_types": ("batch_norm",) * 3 + ("rms_norm",) * attending,
        "decoder_act_fns": ("relu",) * 3 + ("silu",) * attending,
        "scaling_factor": scale,
    }


def structured(widths: tuple[int, ...], scale: float) -> dict[str, Any]:
    """The config of a DC-AE 1.5, after its authors' code (dc_gen/aecore/models/dc_ae.py of DC-Gen)."""
    blocks = (0, 5, 10, *(4,) * (len(widths) - 3))
    return {
        "latent_channels": 128,
        **{f"{half}_block_out_channels": widths for half in ("encoder", "decoder")},
        **{f"{half}_qkv_multiscales": ((),) * len(widths) for half in ("encoder", "decoder")},
        **{f"{half}_layers_per_block": blocks for half in ("encoder", "decoder")},
        "encoder_out_shortcut": False,
        "decoder_in_shortcut": False,
        "decoder_conv_act_fn": "silu",
        "scaling_factor": scale,
    }


F32 = (128, 256, 512, 512, 1024, 1024)
# preset -> family of the checkpoint, class of diffusers, config of the release
DIFFUSERS: Mapping[str, tuple[str, type[nn.Module], dict[str, Any]]] = {
    "allegro_vae": ("allegro", AutoencoderKLAllegro, {}),
    "cogvideox_2b_vae": ("cogvideox", AutoencoderKLCogVideoX, {}),
    "cogvideox_5b_vae": ("cogvideox", AutoencoderKLCogVideoX, {"scaling_factor": 0.7}),
    "dc_ae_f128c512_in_vae": ("dc", AutoencoderDC, imagenet(512, (*F32, 2048, 2048), 0.4883)),
    "dc_ae_f128c512_mix_vae": ("dc", AutoencoderDC, imagenet(512, (*F32, 2048, 2048), 0.3620)),
    "dc_ae_f32c128_1_5_vae": ("dc", AutoencoderDC, structured(F32, 1.0)),
    "dc_ae_f64c128_1_5_vae": ("dc", AutoencoderDC, structured((*F32, 1024), 0.5935)),
    "dc_ae_f32c32_in_vae": ("dc", AutoencoderDC, imagenet(32, F32, 0.3189)),
    "dc_ae_f32c32_mix_vae": ("dc", AutoencoderDC, imagenet(32, F32, 0.4552)),
    "dc_ae_f32c32_sana_vae": ("dc", AutoencoderDC, SANA),
    "dc_ae_f64c128_in_vae": ("dc", AutoencoderDC, imagenet(128, (*F32, 2048), 0.2889)),
    "dc_ae_f64c128_mix_vae": ("dc", AutoencoderDC, imagenet(128, (*F32, 2048), 0.4538)),
    "dc_ae_lite_f32c32_sana_vae": ("dc", AutoencoderDC, SANA_LITE),
    "flux_vae": ("sd", AutoencoderKL, {**SD3, "scaling_factor": 0.3611, "shift_factor": 0.1159}),
    "hunyuan_vae": ("hunyuan", AutoencoderKLHunyuanVideo, {}),
    "ltx_0_9_0_vae": ("ltx", AutoencoderKLLTXVideo, {}),
    "ltx_0_9_1_vae": ("ltx", AutoencoderKLLTXVideo, LTX_0_9_1),
    "ltx_0_9_5_vae": ("ltx", AutoencoderKLLTXVideo, LTX_0_9_5),
    "mochi_vae": ("mochi", AutoencoderKLMochi, {}),
    "sd3_vae": ("sd", AutoencoderKL, {**SD3, "scaling_factor": 1.5305, "shift_factor": 0.0609}),
    "sd_vae": ("sd", AutoencoderKL, SD),
    "sdxl_vae": ("sd", AutoencoderKL, {**SD, "scaling_factor": 0.13025}),
    "wan2_1_vae": ("wan", AutoencoderKLWan, {}),
    "wan2_2_vae": ("wan", AutoencoderKLWan, WAN_2_2),
}
# VideoGPT's layers, summed as its paper's code has them: a residual block is two convolutions, attention along three
# axes and batch norms; each half has 4 of them and a batch norm
VIDEOGPT_BLOCK = 480 + 240 * 120 * 27 + 240 + 120 * 240 + 480 + 3 * (4 * 240 * 240 + 240)
VIDEOGPT_ENCODER = (3 * 64 + 1) * 240 + (240 * 64 + 1) * 240 + (240 * 27 + 1) * 240 + (240 + 1) * 256
VIDEOGPT_DECODER = (256 + 1) * 240 + (240 * 64 + 1) * 240 + 240 * 64 * 3 + 3
# millions of parameters of encoder and decoder, or of both together
MILLIONS: Mapping[str, tuple[float, ...]] = {
    # the layers of its code, summed by hand: 83.7M on each frame and 309.7M in time, 83M and 300M in the report
    "opensora_1_2_vae": (393.3,),
    # 259M as docs/vae_v1_3.md of its authors says
    "opensora_1_3_vae": (259.2,),
    # the layers of v1.0's code, summed by hand
    "osp_1_0_vae": (93.8, 135.4),
    # 94M and 144M as the report of v1.2 says
    "osp_1_2_vae": (94.4, 144.8),
    # counted on the original classes with the published settings
    "osp_1_1_vae": (97.3, 149.5),
    "osp_1_5_vae": (60.3, 166.7),
    # the layers of v1.3's code, summed by hand
    "osp_1_3_vae": (37.2, 110.2),
    # 38M and 108M as the report of WF-VAE says
    "wfvae_s_vae": (38.2, 108.3),
}


def build(preset: str) -> tuple[dict[str, Any], Any]:
    """The composed node and the autoencoder, without memory for its weights."""
    node = compose("reconstruct", [f"model={preset}"])["vae"]
    with torch.device("meta"):
        return node, build_part("vae", node)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("preset", DIFFUSERS)
def test_it_is_the_release_as_diffusers_has_it(preset: str) -> None:
    """Every knob that the release's config tells, every tensor by its name and shape, and so their number."""
    family, truth_class, config = DIFFUSERS[preset]
    node, vae = build(preset)
    with torch.device("meta"):
        truth = truth_class(**config)
    layout, published = families()[family], truth.state_dict()
    if family == "ltx":
        # these are read as they are loaded
        published |= {"latents_mean": torch.zeros(128), "latents_std": torch.ones(128)}
        vae.latent_mean, vae.latent_std = torch.zeros(128), torch.ones(128)
    told = {**truth.config, "_class_name": truth_class.__name__}
    assert layout.recognise(told, published)
    found = Published(Path(preset), layout, layout.knobs(told, published), published)
    found.fill(vae, node["name"], node)
    # a constant that the timesteps are multiplied by is a parameter there
    assert count(vae) == count(truth) - config.get("timestep_conditioning", False)
    assert "M parameters" not in comment(preset) or f"{round(count(truth) / 1e6)}M parameters" in comment(preset)


@pytest.mark.parametrize("preset", MILLIONS)
def test_it_has_the_published_size(preset: str) -> None:
    _, vae = build(preset)
    counted = [count(vae)] if len(MILLIONS[preset]) == 1 else [count(vae.encoder), count(vae.decoder)]
    assert counted == [pytest.approx(1e6 * millions, abs=0.1e6) for millions in MILLIONS[preset]]
    assert f"{round(count(vae) / 1e6)}M parameters" in comment(preset)


def test_videogpt_has_the_layers_of_its_paper() -> None:
    _, vae = build("videogpt_vae")
    assert count(vae.encoder) == VIDEOGPT_ENCODER + 4 * VIDEOGPT_BLOCK + 480
    assert count(vae.decoder) == VIDEOGPT_DECODER + 4 * VIDEOGPT_BLOCK + 480


def comment(preset: str) -> str:
    return presets("model")[preset].read_text().split("defaults:")[0]


def test_no_preset_goes_unchecked() -> None:
    assert sorted([*DIFFUSERS, *MILLIONS, "videogpt_vae"]) == NAMES


@pytest.mark.parametrize("preset", NAMES)
def test_it_says_nothing_but_the_autoencoder(preset: str) -> None:
    """The same config as without a preset, but for the VAE; its comment tells the strides that it has."""
    composed, bare = (compose("reconstruct", [f"model={name}"]) for name in (preset, "null"))
    assert [key for key in bare if composed[key] != bare[key]] == ["vae"]
    spec = build(preset)[1].spec
    assert f"{spec.temporal_stride}x{spec.spatial_stride}x{spec.spatial_stride}" in comment(preset)

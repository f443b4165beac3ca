"""Presets of the U-Net family: each composes, and is what its release is, in settings, tensors and size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from videogen.checkpoints import Published
from videogen.checkpoints.published import recognise
from videogen.config import ConfigError, build_part, compose
from videogen.config.building import wiring_of
from videogen.config.files import presets
from videogen.kernels import ATTENTION

# preset -> table of its checkpoint's keys, published number of parameters
PRESETS = {
    "modelscope": ("modelscope_unet", 1_411_233_860),
    "zeroscope_v2_576w": ("modelscope_unet", 1_411_233_860),
    "zeroscope_v2_xl": ("modelscope_unet", 1_411_233_860),
    "videocrafter1_t2v_512": ("vc1_t2v_512_v1", 1_144_485_956),
    "videocrafter1_t2v_1024": ("vc1_t2v_1024_v1", 1_146_536_516),
    "videocrafter1_i2v_512": ("vc1_i2v_512", 1_438_843_460),
    "videocrafter2": ("vc2_t2v_512", 1_413_284_420),
    # 16 gates more than the others
    "dynamicrafter_256": ("dynamicrafter_256", 1_438_854_996),
    "dynamicrafter_512": ("dynamicrafter_512_1024", 1_438_854_980),
    "dynamicrafter_1024": ("dynamicrafter_512_1024", 1_438_854_980),
}
#: what their configs say the signal is scaled to, over 400 times
SCALED = {
    "videocrafter1_t2v_1024": 0.3,
    "videocrafter1_i2v_512": 0.7,
    "videocrafter2": 0.7,
    "dynamicrafter_512": 0.7,
    "dynamicrafter_1024": 0.3,
}
#: of Stable Diffusion's autoencoder
VAE_PARAMETERS = 83_653_863
#: width of OpenCLIP's ViT-H text tower
TEXT_DIM = 1024


def test_no_preset_goes_unchecked() -> None:
    texts = {name: path.read_text() for name, path in presets("model").items()}
    assert sorted(PRESETS) == sorted(name for name, text in texts.items() if "/denoiser: unet" in text)


@pytest.mark.parametrize("preset", PRESETS)
def test_it_is_the_release_in_knobs_tensors_and_size(
    preset: str, published_keys: dict[str, dict[str, list[int]]]
) -> None:
    table, parameters = PRESETS[preset]
    config = compose("generate", [f"model={preset}"])
    with torch.device("meta"):
        vae = build_part("vae", config["vae"])
        wiring = {
            "latent_channels": vae.spec.latent_channels,
            "text_dim": TEXT_DIM,
            "attention": ATTENTION.build("sdpa"),
        }
        unet = build_part("denoiser", config["denoiser"], *wiring.values())
        tensors = {key: torch.empty(shape) for key, shape in published_keys[table].items()}
    assert tuple(wiring) == wiring_of("denoiser", "unet")
    layout = recognise({}, tensors, preset)
    # refuses knobs that differ, and keys and shapes that don't fit
    found = Published(Path(preset), layout, layout.knobs({}, tensors), tensors)
    found.fill(unet, "unet", {**config["denoiser"], **wiring})
    assert sum(parameter.numel() for parameter in unet.parameters()) == parameters
    assert sum(math.prod(shape) for shape in published_keys[table].values()) == parameters
    assert sum(parameter.numel() for parameter in vae.parameters()) == VAE_PARAMETERS
    comment = presets("model")[preset].read_text().split("defaults:")[0]
    assert f"{round(parameters / 1e6)}M parameters" in comment
    assert f"{config['num_frames']} frames at {config['width']}x{config['height']}" in comment


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_sampled_on_is_what_was_learnt(preset: str) -> None:
    """Objective and sampler are one schedule, that of latent diffusion, as diffusers has it, on a scaled signal."""
    config = compose("generate", [f"model={preset}"])
    objective, scheduler = (build_part("scheduler", config[part]) for part in ("objective", "scheduler"))
    zero, spacing = config["objective"]["zero_terminal_snr"], config["scheduler"]["timestep_spacing"]
    theirs = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=zero,
        timestep_spacing=spacing,
        steps_offset=1 if spacing == "leading" else 0,
    )
    theirs.set_timesteps(config["steps"])
    times = scheduler.timesteps(config["steps"])
    assert times[:-1].tolist() == theirs.timesteps.tolist()
    assert times[-1] == 0
    for part in (objective, scheduler):
        alpha, _ = part.alpha_sigma(times[:-1])
        scale = 1 + (SCALED.get(preset, 1.0) - 1) * (times[:-1] / 399).clamp(max=1)
        wanted = theirs.alphas_cumprod[theirs.timesteps].double().sqrt() * scale
        assert torch.allclose(alpha, wanted, atol=1e-6)
        assert part.prediction == ("v" if zero else "epsilon")


@pytest.mark.parametrize("preset", ["modelscope", "dynamicrafter_256"])
def test_a_model_without_blocks_has_no_setting_for_them(preset: str) -> None:
    assert "dit" not in compose("generate", [f"model={preset}"])
    with pytest.raises(ConfigError, match=r"dit\.block=factorized: denoiser 'unet' has no such part to choose"):
        compose("generate", [f"model={preset}", "dit.block=factorized"])
    with pytest.raises(ConfigError, match=r"unknown key 'dit\.block\.qk_norm'"):
        compose("generate", [f"model={preset}", "dit.block.qk_norm=false"])


def test_the_text_is_read_from_a_folder_of_the_users() -> None:
    config: dict[str, Any] = compose("generate", ["model=modelscope", "text.folder=somewhere"])
    assert config["text"] | {"name": "clip", "num_layers": 23, "pad_id": 0, "max_length": 77} == config["text"]
    with pytest.raises(FileNotFoundError, match=r"somewhere has no config.json: give a local folder with a CLIP"):
        build_part("text", config["text"])

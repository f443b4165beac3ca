"""The U-Net as a part of a model: built by name from a config, sampled with, saved and loaded in our own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import videogen
from videogen.checkpoints import load_weights, save_part
from videogen.config import ConfigError, build_parts, build_pipeline, compose, part_configs

SMALL = [
    "denoiser=unet",
    "denoiser.base_channels=8",
    "denoiser.channel_multipliers=[1,2]",
    "denoiser.num_res_blocks=1",
    "denoiser.attention_levels=[true,false]",
    "denoiser.head_dim=4",
    "denoiser.norm_groups=4",
    "objective=ddpm",
    "scheduler=ddim",
    "text.vocabulary=[red,circle]",
    "text.dim=16",
    "vae.latent_channels=4",
    "vae.base_channels=8",
    "vae.encoder_flow=8",
]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return compose("generate", ["model=null", *SMALL, "num_frames=5", "height=16", "width=24", "steps=2"])


def test_it_stands_in_for_the_transformer(config: dict[str, Any]) -> None:
    """The same words, autoencoder and sampling loop as with a DiT; no setting of its blocks is left."""
    assert "dit" not in config
    torch.manual_seed(0)
    video = build_pipeline(config)("a red circle", seed=1)
    assert video.shape == (1, 3, 5, 16, 24)
    # a preset with a transformer gives way, and what it says of blocks with it
    swapped = compose("generate", ["model=shapes", *SMALL, "weights=null"])
    assert swapped["denoiser"] == config["denoiser"]
    with pytest.raises(ConfigError, match="denoiser 'unet' has no such blocks"):
        compose("generate", ["model=shapes", "dit.block=factorized", *SMALL])


def test_a_folder_of_ours_comes_back(config: dict[str, Any], tmp_path: Path) -> None:
    parts = build_parts(config)
    modules = {"vae": parts.vae, "denoiser": parts.denoiser, "text": parts.text}
    told = part_configs(config, modules)["denoiser"]
    assert (told["latent_channels"], told["text_dim"], "block" in told) == (4, 16, False)
    for value in parts.denoiser.parameters():
        torch.nn.init.normal_(value)
    save_part(tmp_path, told, parts.denoiser.state_dict())
    loaded = videogen.load(tmp_path)
    assert type(loaded) is type(parts.denoiser)
    wanted = parts.denoiser.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(ConfigError, match="holds a denoiser, not a vae"):
        videogen.load(tmp_path, "vae")
    with pytest.raises(ValueError, match="text_dim: 16 saved, 8 asked for"):
        load_weights(tmp_path, {**told, "text_dim": 8}, parts.denoiser)


def test_a_model_that_needs_more_than_text_says_so(config: dict[str, Any]) -> None:
    pipeline = build_pipeline({**config, "denoiser": {**config["denoiser"], "image_attention": True}})
    with pytest.raises(ValueError, match=r"condition.image is missing and this model needs it: give image tokens"):
        pipeline("a red circle")

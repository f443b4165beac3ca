"""The U-Net as a part of a model: built by name from a config, sampled with, saved and loaded in our own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

import videogen
from videogen.checkpoints import load_weights, save_original, save_part
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
    with pytest.raises(ConfigError, match="denoiser 'unet' has no such part to choose"):
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
    with pytest.raises(ValueError, match=r"this model animates an image: give one, image=first\.png"):
        pipeline("a red circle")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny tower of text, as wide as the small network's text."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "circle": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[UNK]").save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    CLIPTextModel(CLIPTextConfig(vocab_size=3, max_position_embeddings=6, **sizes)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layout", ["folder of diffusers", "file"])
def test_a_whole_published_model_is_sampled_from(clip: Path, tmp_path: Path, randomised: Any, layout: str) -> None:
    """Autoencoder and U-Net from one folder or one file, the text from a folder of its own."""
    unet = randomised(
        UNet3DConditionModel(
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=8,
        )
    )
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = randomised(AutoencoderKL(**levels, block_out_channels=(32, 32), layers_per_block=1, latent_channels=4))
    path = tmp_path / "model"
    unet.save_pretrained(path / "unet")
    vae.save_pretrained(path / "vae")
    config = compose("generate", [f"weights={path}", f"text.folder={clip}", *PUBLISHED])
    if layout == "file":
        parts = build_parts(config)
        for kind, family, prefix in (
            ("denoiser", "modelscope", "model.diffusion_model."),
            ("vae", "sd_original", "first_stage_model."),
        ):
            save_original(getattr(parts, kind), family, config[kind], tmp_path / f"{kind}.ckpt", prefix=prefix)
        both = [torch.load(tmp_path / f"{kind}.ckpt", weights_only=True) for kind in ("denoiser", "vae")]
        torch.save({"state_dict": both[0] | both[1]}, tmp_path / "model.ckpt")
        config["weights"] = str(tmp_path / "model.ckpt")
    parts = build_parts(config)
    timestep, latents, text = torch.tensor([7]), torch.randn(1, 4, 2, 4, 6), torch.randn(1, 3, 16)
    with torch.no_grad():
        wanted = unet(latents, timestep, text).sample
        assert torch.allclose(
            parts.denoiser.eval()(latents, timestep, videogen.Condition(text=text)), wanted, atol=1e-4
        )
        frame = vae.decode(latents[:, :, 0]).sample
        assert torch.allclose(parts.vae.decode(latents[:, :, :1])[:, :, 0], frame, atol=1e-4)
    assert build_pipeline(config)("a circle").shape == (1, 3, 2, 8, 12)


PUBLISHED = [
    "model=modelscope",
    "num_frames=2",
    "height=8",
    "width=12",
    "steps=2",
    "denoiser.base_channels=32",
    "denoiser.channel_multipliers=[1,2]",
    "denoiser.num_res_blocks=1",
    "denoiser.attention_levels=[true,false]",
    "denoiser.head_dim=8",
    "vae.base_channels=32",
    "vae.channel_multipliers=[1,1]",
    "vae.num_res_blocks=1",
    "text.num_layers=1",
    "text.max_length=6",
]

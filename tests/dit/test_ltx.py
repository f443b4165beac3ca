"""LTX-Video's transformer: equal to diffusers' LTXVideoTransformer3DModel on the same weights, by both layouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from diffusers.loaders.single_file_utils import convert_ltx_transformer_checkpoint_to_diffusers
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor

from videogen import load
from videogen.checkpoints.layouts.ltx_dit import LAYOUT
from videogen.checkpoints.layouts.ltx_dit_original import LAYOUT as ORIGINAL
from videogen.denoiser import Condition
from videogen.dit.model import DiT

SMALL = {
    "in_channels": 5,
    "out_channels": 5,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "num_layers": 2,
    "caption_channels": 10,
}
# a width that six divides, so that all channels turn
CONFIGS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "all turn": {
        **SMALL,
        "num_attention_heads": 3,
        "cross_attention_dim": 24,
        "attention_bias": False,
        "num_layers": 1,
    },
}
Translated, Distance = Callable[..., DiT], Callable[[Tensor, Tensor], float]


def theirs(truth: Any, latents: Tensor, time: Tensor, condition: Condition, fps: float) -> Tensor:
    """Their prediction; positions are scaled as their pipeline does, for one number of frames a second."""
    grid = dict(zip(("num_frames", "height", "width"), latents.shape[2:], strict=True))
    out = truth(
        hidden_states=rearrange(latents, "b c t h w -> b (t h w) c"),
        encoder_hidden_states=condition.text,
        timestep=1000 * time,
        encoder_attention_mask=condition.text_mask,
        rope_interpolation_scale=(8 / fps, 32, 32),
        **grid,
    ).sample
    return rearrange(out, "b (t h w) c -> b c t h w", t=latents.shape[2], h=latents.shape[3])


def condition(fps: list[float]) -> Condition:
    text = torch.randn(2, 7, 10, generator=torch.Generator().manual_seed(4))
    mask = torch.arange(7) < torch.tensor([7, 3])[:, None]
    return Condition(text=text, text_mask=mask, fps=torch.tensor(fps))


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_equals_diffusers(translated: Translated, distance: Distance, name: str) -> None:
    truth = LTXVideoTransformer3DModel(**CONFIGS[name]).eval()
    ours = translated(LAYOUT, truth)
    time = torch.tensor([0.625, 0.25])
    for size, fps in (((3, 4, 5), 25.0), ((1, 2, 7), 30.0)):
        latents = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(1))
        wanted = theirs(truth, latents, time, condition([fps, fps]), fps)
        assert distance(ours(latents, time, condition([fps, fps])), wanted) < 1e-5


@torch.no_grad()
def test_each_clip_has_its_own_frames_a_second(translated: Translated, distance: Distance) -> None:
    truth = LTXVideoTransformer3DModel(**SMALL).eval()
    ours = translated(LAYOUT, truth)
    latents = torch.randn(2, 5, 3, 2, 4, generator=torch.Generator().manual_seed(1))
    frames = torch.tensor([[0.0, 0.625, 0.625], [0.25, 0.5, 0.75]])
    both = condition([24.0, 8.0])
    got = ours(latents, frames, both)
    times = frames.repeat_interleave(8, dim=1)
    for i, fps in enumerate((24.0, 8.0)):
        assert distance(got[i], theirs(truth, latents, times, both, fps)[i]) < 1e-5
    untold = ours(latents, frames, dataclasses.replace(both, fps=None))
    assert torch.equal(untold, ours(latents, frames, condition([25.0, 25.0])))


@torch.no_grad()
def test_the_first_release_has_the_same_tensors_under_other_names(translated: Translated, tmp_path: Path) -> None:
    # heads as many as released, which no tensor tells
    truth = LTXVideoTransformer3DModel(
        **{**SMALL, "num_attention_heads": 32, "attention_head_dim": 2, "cross_attention_dim": 64}
    )
    ours = translated(LAYOUT, truth)
    knobs = LAYOUT.knobs(truth.config, {})
    released = ORIGINAL.to_published(ours.state_dict(), knobs)
    converted = convert_ltx_transformer_checkpoint_to_diffusers(dict(released))
    assert converted.keys() == truth.state_dict().keys()
    assert all(torch.equal(converted[key], value) for key, value in truth.state_dict().items())
    assert ORIGINAL.knobs({}, released) == knobs

    single = tmp_path / "single.safetensors"
    # what tells of the autoencoder in the same file
    names = ("encoder.down_blocks.0.res_blocks.0.conv1.conv.weight", "per_channel_statistics.mean-of-means")
    beside = {f"vae.{name}": torch.zeros(1) for name in names}
    save_file(beside | {f"model.diffusion_model.{key}": value for key, value in released.items()}, single)
    with pytest.raises(ValueError, match="holds several parts: say which one"):
        load(single)
    again = load(single, kind="denoiser")
    assert all(torch.equal(again.state_dict()[key], value) for key, value in ours.state_dict().items())


def test_the_preset_is_the_release(is_release: Callable[..., None]) -> None:
    with torch.device("meta"):
        truth = LTXVideoTransformer3DModel()
    is_release("ltx_0_9", LAYOUT, truth)


def test_settings_that_are_not_implemented_are_refused() -> None:
    full = {**LTXVideoTransformer3DModel(**SMALL).config}
    for setting in ({"patch_size": 2}, {"norm_elementwise_affine": True}, {"cross_attention_dim": 8}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is not implemented"):
            LAYOUT.knobs({**full, **setting}, {})
    with pytest.raises(ValueError, match="out_channels=4 is not implemented: only 5, as many as in"):
        LAYOUT.knobs({**full, "out_channels": 4}, {})

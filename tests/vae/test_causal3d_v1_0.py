"""The causal VAE of Open-Sora-Plan v1.0: pooled time, 3D throughout, and the attention that it was trained with."""

from __future__ import annotations

import copy

import pytest
import torch

from videogen.checkpoints.layouts import odvae
from videogen.checkpoints.layouts.causalvae import LAYOUT
from videogen.vae.causal3d import Causal3DVAE

#: roundings of some 40 layers in float32; in float64 those of the numbers, which are stored in float32
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-6)]
V1_0 = {"time_resampling": "pool", "fine_in_time": True, "num_res_blocks": 1}


@pytest.fixture(scope="module")
def published(golden):
    numbers = golden("osp_causalvae_v1_0")
    knobs = LAYOUT.knobs(numbers.config, numbers.weights)
    vae = Causal3DVAE(**knobs)
    vae.load_state_dict(LAYOUT.to_ours(numbers.weights, vae, knobs))
    return vae.eval(), numbers, knobs


@pytest.mark.parametrize(("dtype", "limit"), PRECISIONS, ids=str)
@pytest.mark.parametrize("case", ["9f", "1f"])
@torch.no_grad()
def test_it_equals_the_published_model(published, distance, case: str, dtype: torch.dtype, limit: float) -> None:
    vae, (_, _, inputs, outputs), _ = published
    vae = copy.deepcopy(vae).to(dtype)
    mean = outputs[f"mean_{case}"]
    posterior = vae.encode(inputs[f"video_{case}"].to(dtype))
    assert distance(posterior.mode(), mean) < limit
    assert distance(posterior.logvar, outputs[f"logvar_{case}"]) < limit
    assert distance(vae.decode(mean.to(dtype)), outputs[f"recon_{case}"]) < limit


@torch.no_grad()
def test_its_decoder_equals_the_published_one_on_any_latents(published, distance) -> None:
    vae, (_, _, inputs, outputs), _ = published
    assert distance(vae.decode(inputs["latent_3t"]), outputs["dec_3t"]) < 1e-5


@torch.no_grad()
def test_its_frames_are_averaged_early_or_late_as_the_config_says(published, distance) -> None:
    vae, (config, weights, inputs, outputs), _ = published
    released = {**config, "encoder_temporal_downsample": ["TimeDownsample2x", "TimeDownsample2x", "", ""]}
    knobs = LAYOUT.knobs(released, weights)
    early = Causal3DVAE(**knobs).eval()
    early.load_state_dict(LAYOUT.to_ours(weights, early, knobs))
    posterior = early.encode(inputs["video_9f"])
    assert distance(posterior.mode(), outputs["mean_9f_early"]) < 1e-5
    assert distance(posterior.logvar, outputs["logvar_9f_early"]) < 1e-5
    assert distance(vae.encode(inputs["video_9f"]).mode(), outputs["mean_9f_early"]) > 1e-2
    back = LAYOUT.to_published(early.state_dict(), knobs)
    assert all(torch.equal(back[key], value) for key, value in weights.items())


@pytest.mark.parametrize("knobs", [{"time_resampling": "mixed", "fine_in_time": True}, {"time_resampling": "pool"}])
def test_early_pooling_needs_something_to_pool(knobs) -> None:
    with pytest.raises(ValueError, match=r"pool_early with .*only with time_resampling='pool' and fine_in_time=true"):
        Causal3DVAE(pool_early=True, **knobs)


@torch.no_grad()
def test_the_attention_within_frames_is_the_same_on_one_frame_alone(published, distance) -> None:
    vae, (config, weights, inputs, outputs), _ = published
    fixed = {**config, "encoder_attention": "AttnBlock3DFix", "decoder_attention": "AttnBlock3DFix"}
    right = Causal3DVAE(**LAYOUT.knobs(fixed, weights)).eval()
    right.load_state_dict(vae.state_dict())
    assert distance(right.encode(inputs["video_1f"]).mode(), outputs["mean_1f"]) < 1e-5
    assert distance(right.encode(inputs["video_9f"]).mode(), outputs["mean_9f"]) > 1e-3


def test_its_layout_gives_the_file_back_and_tells_the_releases_apart(published) -> None:
    vae, (config, weights, _, _), knobs = published
    back = LAYOUT.to_published(vae.state_dict(), knobs)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())
    assert LAYOUT.recognise(config, weights)
    assert not odvae.LAYOUT.recognise(config, weights)
    assert not LAYOUT.recognise({**config, "encoder_resnet_blocks": odvae.V1_2["encoder_resnet_blocks"]}, weights)
    with pytest.raises(ValueError, match="encoder_attention=AttnBlock3D and decoder_attention=AttnBlock3DFix"):
        LAYOUT.knobs({**config, "decoder_attention": "AttnBlock3DFix"}, weights)
    with pytest.raises(ValueError, match=r"is not that of v1\.0"):
        LAYOUT.knobs({**config, "encoder_temporal_downsample": [""] * 4}, weights)


@pytest.mark.parametrize("frames", [1, 5, 17])
@pytest.mark.parametrize(("interpolation", "early"), [("nearest", False), ("trilinear", False), ("trilinear", True)])
@torch.no_grad()
def test_with_channel_norm_a_stream_equals_the_whole_clip(
    randomised, streamed, distance, interpolation, early: bool, frames: int
) -> None:
    knobs = V1_0 | {"base_channels": 8, "norm": "channel", "pool_early": early}
    vae = randomised(Causal3DVAE(**knobs, time_interpolation=interpolation))
    video = torch.randn(1, 3, frames, 8, 16, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


def test_scrambled_attention_refuses_chunks_whatever_the_norm() -> None:
    vae = Causal3DVAE(**V1_0, base_channels=8, norm="channel", attention="scrambled")
    with pytest.raises(ValueError, match="attention='scrambled' mixes all of its frames"):
        next(vae.encode_stream(torch.zeros(1, 3, 5, 8, 8).split(1, dim=2)))

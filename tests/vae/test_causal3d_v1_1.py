"""The causal VAE of Open-Sora-Plan v1.1: fine levels in 2D, time halved by averages and convolutions, mixed."""

from __future__ import annotations

import copy

import pytest
import torch

from videogen.bounded import WindowedVAE
from videogen.checkpoints import load_published, save_published
from videogen.checkpoints.layouts import odvae
from videogen.checkpoints.layouts.causalvae import LAYOUT
from videogen.vae.causal3d import Causal3DVAE

#: roundings of some 40 layers in float32; in float64 those of the numbers, which are stored in float32
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-6)]
V1_1 = {"time_resampling": "mixed", "num_res_blocks": 1}


@pytest.fixture(scope="module")
def published(golden):
    numbers = golden("osp_causalvae_v1_1")
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


@pytest.mark.parametrize(("dtype", "limit"), PRECISIONS, ids=str)
@torch.no_grad()
def test_windows_that_do_not_overlap_are_the_originals_tiles_in_time(
    published, streamed, distance, dtype: torch.dtype, limit: float
) -> None:
    """Its tiles are of 65 frames, here of 9; each but the first begins with a frame of the one before, and drops it."""
    vae, (_, _, inputs, outputs), _ = published
    vae, video = copy.deepcopy(vae).to(dtype), inputs["video_21f"].to(dtype)
    windowed = WindowedVAE(vae, window=8, stride=8)
    mean, recon = outputs["mean_21f_windows"].to(dtype), outputs["recon_21f_windows"]
    assert distance(windowed.encode(video).mode(), mean) < limit
    assert distance(windowed.decode(mean), recon) < limit
    assert distance(streamed(windowed.decode_stream, mean, 1), recon) < limit
    # as a whole clip it is another one: the norms see all of it
    assert distance(vae.encode(video).mode(), mean) > 1e-2


def test_saving_gives_the_file_back_and_the_releases_are_told_apart(published, tmp_path) -> None:
    vae, (config, weights, _, _), _ = published
    save_published(vae, config, tmp_path / "saved")
    again = load_published(tmp_path / "saved")
    assert all(torch.equal(again.state_dict()[key], value) for key, value in vae.state_dict().items())
    back = LAYOUT.to_published(again.state_dict(), LAYOUT.knobs(config, ()))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())
    assert not odvae.LAYOUT.recognise(config, weights)
    with pytest.raises(ValueError, match=r"is not that of v1\.1"):
        LAYOUT.knobs({**config, "encoder_spatial_downsample": ["SpatialDownsample2x"] * 3 + [""]}, weights)


@torch.no_grad()
def test_the_learned_part_of_the_time_layers_counts(published) -> None:
    """The mix is neither all of the one nor all of the other: without it the result would be v1.0's pooling."""
    vae, (_, _, inputs, _), knobs = published
    pooled = Causal3DVAE(**(knobs | {"time_resampling": "pool"})).eval()
    # the same but for the layers of time, which have no weights there
    kept = {key: value for key, value in vae.state_dict().items() if key in pooled.state_dict()}
    assert kept.keys() == pooled.state_dict().keys()
    pooled.load_state_dict(kept)
    video = inputs["video_9f"]
    assert not torch.allclose(pooled.encode(video).mode(), vae.encode(video).mode(), atol=1e-2)


def test_its_size_is_the_published_one() -> None:
    """97.3M + 149.5M parameters, counted on the original class with the published settings."""
    with torch.device("meta"):
        vae = Causal3DVAE(time_resampling="mixed")
    sizes = [sum(p.numel() for p in half.parameters()) for half in (vae.encoder, vae.decoder)]
    assert sizes == [97_349_330, 149_510_169]


@pytest.mark.parametrize("frames", [1, 5, 17, 33])
@pytest.mark.parametrize("interpolation", ["nearest", "trilinear"])
@torch.no_grad()
def test_with_channel_norm_a_stream_equals_the_whole_clip(
    randomised, streamed, distance, interpolation, frames: int
) -> None:
    vae = randomised(Causal3DVAE(**V1_1, base_channels=8, norm="channel", time_interpolation=interpolation))
    video = torch.randn(1, 3, frames, 8, 16, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5

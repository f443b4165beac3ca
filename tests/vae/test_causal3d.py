"""OD-VAE: equal to Open-Sora-Plan's CausalVAE v1.2 on the same weights; streams exactly where it says that it does."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from videogen.checkpoints.layouts.odvae import LAYOUT
from videogen.vae.causal3d import Causal3DVAE

#: roundings of some 40 layers in float32; in float64 those of the numbers, which are stored in float32
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-6)]


@pytest.fixture(scope="module")
def published(golden):
    numbers = golden("osp_causalvae_v1_2")
    knobs = LAYOUT.knobs(numbers.config, numbers.weights)
    vae = Causal3DVAE(**knobs)
    vae.load_state_dict(LAYOUT.to_ours(numbers.weights, vae, knobs))
    return vae.eval(), numbers


@pytest.mark.parametrize(("dtype", "limit"), PRECISIONS, ids=str)
@pytest.mark.parametrize("case", ["9f", "1f"])
@torch.no_grad()
def test_it_equals_the_published_model(published, distance, case: str, dtype: torch.dtype, limit: float) -> None:
    vae, (_, _, inputs, outputs) = published
    vae = copy.deepcopy(vae).to(dtype)
    mean = outputs[f"mean_{case}"]
    posterior = vae.encode(inputs[f"video_{case}"].to(dtype))
    assert distance(posterior.mode(), mean) < limit
    assert distance(posterior.logvar, outputs[f"logvar_{case}"]) < limit
    assert distance(vae.decode(mean.to(dtype)), outputs[f"recon_{case}"]) < limit


def test_its_layout_gives_the_file_back(published) -> None:
    vae, (config, weights, _, _) = published
    back = LAYOUT.to_published(vae.state_dict(), LAYOUT.knobs(config, weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())


def test_layers_of_another_release_are_refused(published) -> None:
    _, (config, weights, _, _) = published
    with pytest.raises(ValueError, match=r"encoder_attention=AttnBlock3D is not that of v1\.2"):
        LAYOUT.knobs({**config, "encoder_attention": "AttnBlock3D"}, weights)


@torch.no_grad()
def test_its_decoder_equals_the_published_one_on_any_latents(published, distance) -> None:
    vae, (_, _, inputs, outputs) = published
    assert distance(vae.decode(inputs["latent_3t"]), outputs["dec_3t"]) < 1e-5


def test_its_size_is_the_published_one() -> None:
    """94.4M + 144.8M parameters, which is what the 94M + 144M of the paper come to."""
    with torch.device("meta"):
        vae = Causal3DVAE()
    sizes = [sum(p.numel() for p in half.parameters()) / 1e6 for half in (vae.encoder, vae.decoder)]
    assert [round(size, 1) for size in sizes] == [94.4, 144.8]


@pytest.mark.parametrize("frames", [1, 5, 17, 33])
@pytest.mark.parametrize("interpolation", ["nearest", "trilinear"])
@torch.no_grad()
def test_with_channel_norm_a_stream_equals_the_whole_clip(
    randomised, streamed, distance, interpolation, frames: int
) -> None:
    knobs = {"base_channels": 8, "channel_multipliers": (1, 2, 2, 1), "num_res_blocks": 1, "norm": "channel"}
    vae = randomised(Causal3DVAE(**knobs, time_interpolation=interpolation))
    video = torch.randn(1, 3, frames, 8, 16, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@torch.no_grad()
def test_two_trilinear_doublings_see_one_latent_ahead_and_no_further(randomised) -> None:
    """What the look-ahead of a stream rests on: frames of latent t depend on latent t + 1, but not on t + 2."""
    vae = randomised(Causal3DVAE(base_channels=8, channel_multipliers=(1, 1, 1, 1), num_res_blocks=1, norm="channel"))
    latents = torch.randn(1, 4, 5, 2, 2, generator=torch.Generator().manual_seed(1))
    changed = latents.clone()
    changed[:, :, 3] += 1
    first = (vae.decode(changed) - vae.decode(latents)).abs().amax((0, 1, 3, 4)).nonzero()[0].item()
    assert 1 + 4 * 1 <= first < 1 + 4 * 2


@torch.no_grad()
def test_with_group_norm_it_refuses_chunks_and_takes_a_whole_clip(published, streamed) -> None:
    vae, (_, _, inputs, _) = published
    video = inputs["video_9f"]
    whole = vae.encode(video).mode()
    assert torch.equal(streamed(vae.encode_stream, video, 9), whole)
    assert torch.equal(streamed(vae.decode_stream, whole, 3), vae.decode(whole))
    for stream, clip in ((vae.encode_stream, video), (vae.decode_stream, whole)):
        given = stream(clip.split([1, clip.shape[2] - 1], dim=2))
        # refused before anything is given out
        with pytest.raises(ValueError, match=r"norm='group' .* whole .* norm='channel'"):
            next(given)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"base_channels": 40}, "40 channels do not split into norm_groups=32: use 32 channels"),
        ({"base_channels": 8, "norm": "channel", "norm_groups": 4}, "norm_groups=4 says nothing with norm='channel'"),
        ({"norm": "batch"}, "norm='batch' is unknown: choose group or channel"),
        (
            {"channel_multipliers": (1, 2)},
            "channel_multipliers=(1, 2) has 2 levels, but time is halved 2 times: give at least 3",
        ),
    ],
)
def test_knobs_that_make_no_model_are_refused(knobs, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=re.escape(message)):
        Causal3DVAE(**knobs)


def test_a_level_less_halves_space_once_less() -> None:
    with torch.device("meta"):
        spec = Causal3DVAE(channel_multipliers=(1, 2, 4)).spec
    assert spec.latent_shape(9, 8, 12) == (4, 3, 2, 3)

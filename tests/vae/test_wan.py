"""Wan's autoencoders: equal to diffusers' AutoencoderKLWan on the same weights, and streaming exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from videogen.checkpoints.layouts.wan import LAYOUT
from videogen.vae._streaming import StreamCache
from videogen.vae.wan import WanVAE

STATISTICS = {"latents_mean": [0.5, -1.0, 0.25, 0.0, 2.0, -0.1], "latents_std": [2.0, 0.5, 1.0, 3.0, 0.25, 1.5]}
V21 = {"base_dim": 4, "z_dim": 6, "dim_mult": [1, 2, 3, 2], "num_res_blocks": 1, **STATISTICS}
# time is halved at the finest level, and there are fewer levels and other widths on each side
SHORT = {
    **V21,
    "dim_mult": [2, 1, 2],
    "decoder_base_dim": 6,
    "num_res_blocks": 2,
    "temperal_downsample": [True, True],
}
V22 = {
    **V21,
    "decoder_base_dim": 8,
    "dim_mult": [1, 2, 4, 4],
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "scale_factor_spatial": 16,
}
# the encoder's finest level narrows too, the coarsest has half the width of the one before it
NARROWING = {**V22, "dim_mult": [2, 4, 4, 2], "num_res_blocks": 2, "temperal_downsample": [True, False, True]}
CONFIGS = {"2.1": V21, "2.1-short": SHORT, "2.2": V22, "2.2-narrowing": NARROWING}
# as published with Wan2.2-TI2V-5B, but for the statistics
TI2V_5B = {
    **V22,
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "num_res_blocks": 2,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}
KNOBS_22 = {"shortcuts": True, "patch_size": 2, "decoder_channels": 8}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("size", [(1, 32, 48), (5, 48, 16), (17, 16, 32)])
@torch.no_grad()
def test_it_equals_diffusers(randomised, distance, config: dict[str, Any], size: tuple[int, int, int]) -> None:
    truth = randomised(AutoencoderKLWan(**config))
    # diffusers clips the video to [-1, 1]; small weights at its end keep it within, so that all of it is compared
    truth.decoder.conv_out.weight.mul_(0.1)
    knobs = LAYOUT.knobs(truth.config, truth.state_dict())
    vae = WanVAE(**knobs).eval()
    vae.load_state_dict(LAYOUT.to_ours(truth.state_dict(), vae, knobs))
    back = LAYOUT.to_published(vae.state_dict(), knobs)
    assert back.keys() == truth.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in truth.state_dict().items())

    video = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    posterior, wanted = vae.encode(video), truth.encode(video).latent_dist
    assert distance(posterior.mode(), wanted.mean) < 1e-5
    assert distance(posterior.logvar, wanted.logvar) < 1e-5
    decoded = vae.decode(wanted.mean)
    assert decoded.abs().max() < 1
    assert distance(decoded, truth.decode(wanted.mean).sample) < 1e-5


@pytest.mark.parametrize("knobs", [{}, KNOBS_22], ids=["2.1", "2.2"])
@pytest.mark.parametrize("frames", [1, 5, 17, 33])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, knobs: dict[str, Any], frames: int) -> None:
    vae = randomised(WanVAE(base_channels=4, num_res_blocks=1, **knobs))
    video = torch.randn(1, 3, frames, 16, 32, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@pytest.mark.parametrize("knobs", [{}, KNOBS_22], ids=["2.1", "2.2"])
@torch.no_grad()
def test_a_cache_holds_a_few_frames_whatever_the_chunk(knobs: dict[str, Any]) -> None:
    vae = WanVAE(base_channels=4, num_res_blocks=1, **knobs)
    video, latents = StreamCache(), StreamCache()
    held: list[tuple[int, int]] = []
    for frames in (1, 4, 8):
        vae.encode_chunk(torch.zeros(1, 3, frames, 16, 16), video)
        vae.decode_chunk(torch.zeros(1, 16, frames, 1, 1), latents)
        sizes = [sum(x.untyped_storage().nbytes() for x in cache.values()) for cache in (video, latents)]
        held.append((sizes[0], sizes[1]))
    # the convolution that doubles frames first remembers some when it has seen a second
    assert held[1] == held[2]
    assert held[0] <= held[1]


@torch.no_grad()
def test_no_frame_sees_a_later_one(randomised) -> None:
    """A change in the last latent frame leaves the latents and the video before it as they were."""
    vae = randomised(WanVAE(base_channels=4, num_res_blocks=1))
    video = torch.randn(1, 3, 9, 16, 16, generator=torch.Generator().manual_seed(1))
    changed = video.clone()
    changed[:, :, 5] += 1
    latents, moved = vae.encode(video).mode(), vae.encode(changed).mode()
    assert torch.equal(latents[:, :, :2], moved[:, :, :2])
    assert not torch.equal(latents[:, :, 2], moved[:, :, 2])
    frames, moved_frames = vae.decode(latents), vae.decode(moved)
    # convolutions over longer clips may add in another order
    torch.testing.assert_close(frames[:, :, :5], moved_frames[:, :, :5], rtol=0, atol=1e-6)
    assert not torch.equal(frames[:, :, 5], moved_frames[:, :, 5])


@pytest.mark.parametrize(("config", "count"), [({}, 126_892_531), (TI2V_5B, 704_688_668)], ids=["2.1", "2.2-TI2V-5B"])
def test_its_size_is_the_published_one(config: dict[str, Any], count: int) -> None:
    """127M and 705M parameters, as the autoencoders of Wan 2.1 and of Wan 2.2 TI2V-5B have."""
    with torch.device("meta"):
        truth = AutoencoderKLWan(**config)
        knobs = LAYOUT.knobs(truth.config, truth.state_dict())
        vae = WanVAE(**knobs)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (vae, truth)]
    assert sizes == [count, count]
    stride = vae.spec.spatial_stride
    assert vae.spec.latent_shape(81, 480, 832) == (knobs["latent_channels"], 21, 480 // stride, 832 // stride)


def test_the_config_says_the_knobs() -> None:
    with torch.device("meta"):
        config = AutoencoderKLWan(**V22).config
    assert LAYOUT.knobs(config, ()) == {
        "latent_channels": 6,
        "base_channels": 4,
        "decoder_channels": 8,
        "channel_multipliers": (1, 2, 4, 4),
        "num_res_blocks": 1,
        "time_steps": (False, True, True),
        "shortcuts": True,
        "patch_size": 2,
        "latent_shift": (0.5, -1.0, 0.25, 0.0, 2.0, -0.1),
        "latent_scale": (0.5, 2.0, 1.0, 1 / 3, 4.0, 1 / 1.5),
    }
    # the config.json of Wan 2.1 is older than the settings of 2.2
    assert LAYOUT.knobs({**V21, "temperal_downsample": [False, True, True]}, ())["decoder_channels"] == 4


def test_settings_that_are_not_implemented_are_refused() -> None:
    for setting in ({"attn_scales": [0.5]}, {"in_channels": 3}, {"out_channels": 4}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is not implemented"):
            LAYOUT.knobs({**V22, **setting}, ())


def test_widths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 levels, so there are 3 steps between them: time_steps says 2"):
        WanVAE(base_channels=4, time_steps=(True, True))
    with pytest.raises(ValueError, match="level of 5 channels is halved"):
        WanVAE(base_channels=5, channel_multipliers=(1, 1, 1, 1))
    with pytest.raises(ValueError, match="average 4 channels, folded to 4, to 12: use a width that divides 4"):
        WanVAE(base_channels=4, channel_multipliers=(1, 1, 1, 3), shortcuts=True)
    with pytest.raises(ValueError, match="repeat 32 channels to 16, to unfold them to 4: use a width that divides 16"):
        WanVAE(base_channels=4, channel_multipliers=(1, 1, 8, 8), shortcuts=True)

"""LTX-Video's autoencoder: equal to diffusers' on the same weights, release by release; it streams if all causal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo
from torch import Tensor

from videogen.checkpoints.layouts.ltx import LAYOUT
from videogen.vae import VAES
from videogen.vae.ltx import LTXVAE

# the first release, small: levels that widen on the way, and two that don't
FIRST: dict[str, Any] = {
    "latent_channels": 6,
    "patch_size": 2,
    "block_out_channels": (8, 16, 16),
    "decoder_block_out_channels": (8, 16, 16),
    "down_block_types": ("LTXVideoDownBlock3D",) * 3,
    "layers_per_block": (2, 1, 1, 2),
    "decoder_layers_per_block": (2, 1, 1, 3),
    "spatio_temporal_scaling": (True, True, False),
    "decoder_spatio_temporal_scaling": (True, True, False),
    "decoder_inject_noise": (False,) * 4,
    "upsample_residual": (False,) * 3,
    "upsample_factor": (1,) * 3,
}
# widths of another pattern, without patches
PLAIN = FIRST | {
    "patch_size": 1,
    "block_out_channels": (4, 8, 12),
    "decoder_block_out_channels": (12, 8, 4),
    "spatio_temporal_scaling": (True, False, True),
    "decoder_spatio_temporal_scaling": (False, True, True),
}
# the decoder of 0.9.1 on, which widens in its upsamplers, with their residual and a timestep
NARROWING = FIRST | {
    "decoder_block_out_channels": (16, 32),
    "decoder_layers_per_block": (1, 2, 1),
    "decoder_spatio_temporal_scaling": (True, True),
    "decoder_inject_noise": (False,) * 3,
    "upsample_residual": (True,) * 2,
    "upsample_factor": (2,) * 2,
    "timestep_conditioning": True,
}
# the encoder of 0.9.5 on: time and space are folded one after the other
FOLDING = NARROWING | {
    "block_out_channels": (8, 16, 32, 32),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 3,
    "layers_per_block": (1, 2, 1, 1),
    "spatio_temporal_scaling": (True, True, True),
    "downsample_type": ("spatial", "temporal", "spatiotemporal"),
    "decoder_layers_per_block": (1, 1, 1),
    "timestep_conditioning": False,
}
CAUSAL = NARROWING | {"decoder_causal": True, "timestep_conditioning": False}
# the decoder of 0.9.1, whose blocks add noise; and one that isn't conditioned and doesn't narrow
NOISY = NARROWING | {"decoder_inject_noise": (True, False, True)}
NOISY_FIRST = FIRST | {"decoder_inject_noise": (False, True, True, False)}
RELEASES = {
    "first": FIRST,
    "plain": PLAIN,
    "narrowing": NARROWING,
    "noisy": NOISY,
    "noisy-first": NOISY_FIRST,
    "folding": FOLDING,
    "causal": CAUSAL,
}
TIMESTEP, SEED = 0.05, 7


def pair(settings: dict[str, Any], fill: Any) -> tuple[AutoencoderKLLTXVideo, LTXVAE, dict[str, Any]]:
    """Theirs and ours with the same random weights, and our knobs."""
    theirs = fill(AutoencoderKLLTXVideo(**settings))
    source = torch.Generator().manual_seed(3)
    theirs.latents_mean.copy_(torch.randn(theirs.latents_mean.shape, generator=source))
    theirs.latents_std.copy_(torch.rand(theirs.latents_std.shape, generator=source) + 0.5)
    if settings.get("timestep_conditioning"):
        theirs.decoder.timestep_scale_multiplier.data.fill_(900.0)
    config = dict(theirs.config, _class_name="AutoencoderKLLTXVideo")
    published = theirs.state_dict()
    assert LAYOUT.recognise(config, published)
    knobs = LAYOUT.knobs(config, published)
    seed, timestep = SEED if knobs["decoder_noise"] else 0, TIMESTEP if knobs["timestep_conditioning"] else 0.0
    ours = LTXVAE(**knobs, decode_timestep=timestep, noise_seed=seed)
    ours.load_state_dict(LAYOUT.to_ours(published, ours, knobs))
    return theirs, ours.eval(), knobs


@pytest.mark.parametrize("release", RELEASES)
@torch.no_grad()
def test_it_equals_diffusers(randomised, distance, release: str) -> None:
    theirs, ours, knobs = pair(RELEASES[release], randomised)
    stride, space = ours.spec.temporal_stride, ours.spec.spatial_stride
    conditioned = knobs["timestep_conditioning"]
    for batch, steps, (height, width) in ((2, 2, (2 * space, 3 * space)), (1, 0, (3 * space, space))):
        video = torch.randn(batch, 3, 1 + steps * stride, height, width, generator=torch.Generator().manual_seed(1))
        posterior, wanted = ours.encode(video), theirs.encode(video).latent_dist
        # float32 rounding: up to 6e-7 on the latents and 1.4e-6 on the video were measured
        assert distance(posterior.mode(), wanted.mean) < 1e-5
        assert distance(posterior.logvar, wanted.logvar) < 1e-5
        timestep = torch.full((batch,), TIMESTEP) if conditioned else None
        # theirs draws noise from PyTorch's own source, in the order of the layers
        torch.manual_seed(SEED)
        assert distance(ours.decode(wanted.mean), theirs.decode(wanted.mean, timestep).sample) < 1e-5


@pytest.mark.parametrize("release", RELEASES)
def test_the_layout_goes_both_ways(randomised, release: str) -> None:
    theirs, ours, knobs = pair(RELEASES[release], randomised)
    published = theirs.state_dict()
    again = LAYOUT.to_published(ours.state_dict(), knobs)
    assert again.keys() == published.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in published.items())


def test_a_checkpoint_brings_its_statistics(randomised) -> None:
    theirs, ours, _ = pair(FIRST, randomised)
    assert ours.spec.shift == tuple(theirs.latents_mean.tolist())
    assert ours.spec.scale == pytest.approx((1 / theirs.latents_std).tolist())
    before = ours.spec
    # a cast rounds the buffers, not what the pipeline scales with
    assert ours.to(torch.bfloat16).spec == before
    knobs = {"latent_shift": (0.1,) * 128, "latent_scale": (0.3,) * 128}
    with torch.device("meta"):
        assert LTXVAE(**knobs).spec.scale == (0.3,) * 128


@pytest.mark.parametrize(
    "release",
    [
        {},
        # as published
        {
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
        },
        {
            "decoder_block_out_channels": (256, 512, 1024),
            "decoder_layers_per_block": (5, 6, 7, 8),
            "decoder_spatio_temporal_scaling": (True,) * 3,
            "decoder_inject_noise": (True, True, True, False),
            "upsample_residual": (True,) * 3,
            "upsample_factor": (2,) * 3,
            "timestep_conditioning": True,
        },
    ],
    ids=["0.9.0", "0.9.5", "0.9.1"],
)
def test_its_published_sizes_are_diffusers(release: dict[str, Any]) -> None:
    with torch.device("meta"):
        theirs = AutoencoderKLLTXVideo(**release)
        knobs = LAYOUT.knobs(dict(theirs.config), ())
        ours = LTXVAE(**knobs)
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in LAYOUT.to_published(ours.state_dict(), knobs).items()} == shapes
    assert (ours.spec.latent_channels, ours.spec.temporal_stride, ours.spec.spatial_stride) == (128, 8, 32)


def test_the_defaults_are_the_first_release() -> None:
    with torch.device("meta"):
        theirs, ours = AutoencoderKLLTXVideo(), LTXVAE()
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    knobs = LAYOUT.knobs(dict(theirs.config), ())
    assert knobs == {name: value for name, value in defaults().items() if name in knobs}
    # its config says nothing of the decoder
    early = {n: v for n, v in theirs.config.items() if not n.startswith(("decoder_", "upsample", "down"))}
    assert LAYOUT.knobs(early, ()) == knobs


def defaults() -> dict[str, Any]:
    return {knob.name: knob.default for knob in VAES.knobs("ltx")}


@pytest.mark.parametrize("frames", [1, 5, 17, 33])
@pytest.mark.parametrize("release", ["causal", "folding", "noisy"])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, release: str, frames: int) -> None:
    _, vae, _ = pair(RELEASES[release] | {"decoder_causal": True}, randomised)
    video = torch.randn(1, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@torch.no_grad()
def test_the_noise_is_its_seeds_and_leaves_pytorchs_own_source_alone(randomised) -> None:
    _, vae, knobs = pair(NOISY, randomised)
    latents = torch.randn(2, 6, 2, 2, 3, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    video = vae.decode(latents)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(vae.decode(latents), video)
    # nor does it depend on the batch
    torch.testing.assert_close(vae.decode(latents[:1]), video[:1])
    other = LTXVAE(**knobs, decode_timestep=TIMESTEP, noise_seed=SEED + 1).eval()
    other.load_state_dict(vae.state_dict())
    assert not torch.allclose(other.decode(latents), video, atol=1e-2)


@torch.no_grad()
def test_the_published_decoder_looks_ahead(randomised, streamed) -> None:
    _, vae, _ = pair(FIRST, randomised)
    latents = torch.randn(1, 6, 3, 2, 3, generator=torch.Generator().manual_seed(1))
    changed = latents.clone()
    changed[:, :, 2] += 1
    assert not torch.equal(vae.decode(latents)[:, :, 0], vae.decode(changed)[:, :, 0])
    with pytest.raises(ValueError, match=r"looks ahead in time.*decoder_causal=true"):
        streamed(vae.decode_stream, latents, 1)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"encoder_blocks": (1, 1)}, "encoder_widths has 5 values, encoder_blocks 2 and downsamplers 4"),
        ({"upsamplers": (True,)}, "decoder_widths has 5 values, decoder_blocks 5 and upsamplers 1"),
        ({"upsamplers": (True, True, False, False)}, "shorten time 8 times and space 8 times, .* both 4 times"),
        ({"downsamplers": ("conv", "spatial", "conv", "none")}, "shorten time 4 times and space 8 times"),
        ({"decoder_noise": (True, False)}, "decoder_noise has 2 values and decoder_blocks 5: give as many, or none"),
        ({"noise_seed": 3}, "noise_seed=3 says nothing without decoder_noise"),
        ({"noise_seed": 3, "decoder_noise": (False,) * 5}, "noise_seed=3 says nothing without decoder_noise"),
        ({"decode_timestep": 0.05}, "decode_timestep=0.05 says nothing without timestep_conditioning"),
        (
            {"downsamplers": ("spatiotemporal", "conv", "conv", "none"), "encoder_widths": (8, 12, 8, 8, 8)},
            "a multiple of 8",
        ),
        ({"upsample_residual": True, "decoder_widths": (4, 4, 4, 4, 4)}, "upsample_residual can't unfold 4 channels"),
    ],
)
def test_knobs_that_do_not_fit_are_refused(knobs: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        LTXVAE(**knobs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_causal": False}, "encoder_causal=False is not implemented: only True is"),
        ({"patch_size_t": 2}, "patch_size_t=2"),
        ({"upsample_factor": (1, 2, 1)}, "mixed levels"),
    ],
)
def test_a_config_that_is_not_implemented_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYOUT.knobs(FIRST | change, ())


def test_weights_of_another_config_are_named(randomised) -> None:
    theirs, _, knobs = pair(FIRST, randomised)
    published: dict[str, Tensor] = theirs.state_dict()
    other = LTXVAE(**knobs | {"decoder_blocks": (2, 1, 1, 4)})
    with pytest.raises(ValueError, match=r"missing: decoder\.mid_block\.resnets\.3\.conv1\.conv\.weight"):
        LAYOUT.to_ours(published, other, knobs)

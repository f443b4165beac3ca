"""WF-VAE: equal to the published v1.3 on the same weights; its wavelets invert; it streams exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.layouts.wfvae import LAYOUT
from videogen.vae._haar import Haar2D, Haar3D
from videogen.vae.wavelet import WaveletVAE


@pytest.fixture(scope="module")
def published(golden):
    numbers = golden("osp_wfvae_v1_3")
    knobs = LAYOUT.knobs(numbers.config, numbers.weights)
    vae = WaveletVAE(**knobs)
    vae.load_state_dict(LAYOUT.to_ours(numbers.weights, vae, knobs))
    # the original ran with other filters here than Haar's
    vae.encoder.haar2.matrix.copy_(numbers.inputs["filters"])
    return vae.eval(), numbers


@pytest.mark.parametrize("case", ["17f", "1f", "49f"])
@torch.no_grad()
def test_it_equals_the_published_model(published, distance, case: str) -> None:
    vae, (_, _, inputs, outputs) = published
    posterior = vae.encode(inputs[f"video_{case}"])
    # float32 rounding: up to 1e-6 on the latents and 3e-6 on the video were measured
    assert distance(posterior.mode(), outputs[f"mean_{case}"]) < 1e-5
    assert distance(posterior.logvar, outputs[f"logvar_{case}"]) < 1e-5
    assert distance(vae.decode(outputs[f"mean_{case}"]), outputs[f"recon_{case}"]) < 1e-5


@torch.no_grad()
def test_its_stream_is_whole_where_the_published_chunks_are_not(published, streamed, distance) -> None:
    """14 latents in chunks of 4: the published code forgets one look-ahead there, and its last 6 frames go wrong."""
    vae, (_, _, inputs, outputs) = published
    latents = inputs["latent_14t"]
    assert distance(vae.decode(latents), outputs["dec_14t"]) < 1e-5
    assert distance(streamed(vae.decode_stream, latents, 4), outputs["dec_14t"]) < 1e-5
    assert distance(outputs["dec_chunked_14t"], outputs["dec_14t"]) > 0.1


def test_its_layout_gives_the_file_back_with_the_filters(published) -> None:
    vae, (config, weights, _, _) = published
    back = LAYOUT.to_published(vae.state_dict(), LAYOUT.knobs(config, weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())


def test_filters_may_be_absent_or_rounded_but_no_others(published) -> None:
    vae, (config, weights, _, _) = published
    knobs = LAYOUT.knobs(config, weights)
    filters = LAYOUT.constants(knobs)
    assert len(filters) == 24
    halved = {key: value.bfloat16() if key in filters else value for key, value in weights.items()}
    for given in (halved, {key: value for key, value in weights.items() if key not in filters}):
        assert LAYOUT.to_ours(given, vae, knobs).keys() == vae.state_dict().keys()
    key = "encoder.wavelet_tranform_l2.g_conv.conv.weight"
    for other in (-weights[key], weights[key].flatten()):
        with pytest.raises(LayoutError, match=f"constants with other values: {key}$"):
            LAYOUT.to_ours({**weights, key: other}, vae, knobs)


def test_layers_of_no_release_are_refused(published) -> None:
    _, (config, weights, _, _) = published
    for key, value, told in (
        ("l1_downsample_wavelet", "HaarWaveletTransform3D", "neither the layers of v1.3"),
        ("decoder_num_resblocks", 3, "decoder_num_resblocks=3: .* only 2 is known"),
        ("norm_type", "groupnorm", "norm_type='groupnorm': .* only 'layernorm' is known"),
    ):
        with pytest.raises(ValueError, match=told):
            LAYOUT.knobs({**config, key: value}, weights)


@pytest.mark.parametrize("frames", [1, 5, 17, 33])
@pytest.mark.parametrize(
    "knobs",
    [
        {"time_interpolation": "nearest"},
        {"time_interpolation": "trilinear"},
        {"time_interpolation": "trilinear", "linear_path": True},
    ],
    ids=["nearest", "trilinear", "linear-path"],
)
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, knobs, frames: int) -> None:
    vae = randomised(WaveletVAE(base_channels=8, encoder_flow=8, **knobs))
    video = torch.randn(1, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@pytest.mark.parametrize("frames", [1, 7])
def test_the_wavelets_invert_and_keep_the_energy(frames: int) -> None:
    video = torch.randn(2, 3, frames, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    haar = Haar3D().double()
    bands = haar(video)
    assert bands.shape == (2, 24, (frames + 1) // 2, 3, 5)
    # the gain is a float32, so the transform is orthogonal to 1e-7
    torch.testing.assert_close(haar.inverse(bands, first=True), video, rtol=0, atol=1e-6)
    # the first frame is its own past, so it counts twice
    energy = video.square().sum() + video[:, :, 0].square().sum()
    torch.testing.assert_close(bands.square().sum(), energy, rtol=1e-6, atol=0)
    flat = Haar2D().double()
    torch.testing.assert_close(flat.inverse(flat(video)), video, rtol=0, atol=1e-12)
    torch.testing.assert_close(flat(video).square().sum(), video.square().sum(), rtol=1e-12, atol=0)


def test_the_bands_are_the_differences_that_their_order_says() -> None:
    """A ramp along one axis shows in the low band and in that axis' difference alone."""
    steps = torch.arange(4.0)
    along = {"time": steps.view(4, 1, 1), "height": steps.view(1, 4, 1), "width": steps.view(1, 1, 4)}
    for axis, bands_3d, bands_2d in (("width", {0, 1}, {0, 2}), ("height", {0, 2}, {0, 1}), ("time", {0, 4}, {0})):
        ramp = along[axis].expand(4, 4, 4).unsqueeze(0).unsqueeze(0)
        # one frame more in front, so that frames pair up as (0), (1, 2), (3, 4)
        clip = torch.cat([ramp[:, :, :1], ramp], dim=2)
        assert seen(Haar3D()(clip)) == bands_3d
        assert seen(Haar2D()(ramp)) == bands_2d


def seen(bands: Tensor) -> set[int]:
    return set(bands.abs().amax((0, 2, 3, 4)).gt(1e-6).nonzero().flatten().tolist())

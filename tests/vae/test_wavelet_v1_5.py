"""WF-VAE of Open-Sora-Plan v1.5: 8x8x8 strides, equal to the original on the same weights; it streams exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import videogen
from videogen.checkpoints import save_published
from videogen.checkpoints.layouts.wfvae import LAYOUT
from videogen.vae.wavelet import WaveletVAE

FILE = Path(__file__).parent / "fixtures" / "osp_wfvae_v1_5" / "weights.safetensors"
# paths narrower than the convolutions beside them, as published
SMALL: dict[str, Any] = {"temporal_stride": 8, "base_channels": 8, "encoder_flow": 6, "decoder_flow": 5}
#: of a release -> parameters of encoder and decoder; v1.5's were counted on the original class with its settings
SIZES = {
    "v1.3": ({"encoder_flow": 128, "latent_channels": 4}, (38.2, 108.3)),
    "v1.5": (
        {
            "temporal_stride": 8,
            "latent_channels": 32,
            "base_channels": 160,
            "encoder_flow": 128,
            "decoder_flow": 128,
        },
        (60.3, 166.7),
    ),
}


@pytest.fixture(scope="module")
def published(golden):
    vae = videogen.load(FILE)
    assert isinstance(vae, WaveletVAE)
    return vae, golden("osp_wfvae_v1_5")


@pytest.mark.parametrize("case", ["17f", "1f"])
@torch.no_grad()
def test_it_equals_the_published_model(published, distance, case: str) -> None:
    vae, (_, _, inputs, outputs) = published
    posterior = vae.encode(inputs[f"video_{case}"])
    # float32 rounding: up to 1e-6 on the latents and 3e-6 on the video were measured
    assert distance(posterior.mode(), outputs[f"mean_{case}"]) < 1e-5
    assert distance(posterior.logvar, outputs[f"logvar_{case}"]) < 1e-5
    assert distance(vae.decode(outputs[f"mean_{case}"]), outputs[f"recon_{case}"]) < 1e-5


def test_saving_gives_the_file_back_with_the_filters(published, tmp_path: Path) -> None:
    vae, (config, weights, _, _) = published
    save_published(vae, config, tmp_path / "again")
    back = load_file(tmp_path / "again" / "diffusion_pytorch_model.safetensors")
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())
    knobs = LAYOUT.knobs(config, weights)
    assert knobs["decoder_flow"] == 3
    assert len(LAYOUT.constants(knobs)) == 6 * 8
    again = videogen.load(tmp_path / "again").state_dict()
    assert all(torch.equal(again[key], value) for key, value in vae.state_dict().items())


def test_its_latents_are_scaled_as_published(published) -> None:
    vae, (config, _, _, _) = published
    assert vae.spec.latent_shape(17, 16, 24) == (3, 3, 2, 3)
    assert vae.spec.scale == tuple(config["scale"])
    assert vae.spec.shift == tuple(config["shift"])


@pytest.mark.parametrize("frames", [1, 9, 17, 33])
@pytest.mark.parametrize(("interpolation", "linear"), [("nearest", False), ("trilinear", False), ("trilinear", True)])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, interpolation, linear, frames: int) -> None:
    vae = randomised(WaveletVAE(**SMALL, time_interpolation=interpolation, linear_path=linear))
    video = torch.randn(1, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@pytest.mark.parametrize("stride", [4, 8])
@torch.no_grad()
def test_a_linear_path_with_a_channel_for_each_difference_loses_nothing(distance, stride: int) -> None:
    """n patches span n - 1 directions around their mean: as many principal components give them back."""
    video = torch.randn(3, 1 + 2 * stride, 16, 8, generator=torch.Generator().manual_seed(1))
    patches = 3 * 2 * 1
    knobs = {key: value for key, value in SMALL.items() if key not in ("latent_channels", "temporal_stride")}
    vae = WaveletVAE(**knobs, latent_channels=patches - 1, temporal_stride=stride, linear_path=True).eval()
    vae.fit([video])
    latents = vae.encode(video[None]).mode()
    assert latents.shape[2:] == (3, 2, 1)
    # float32 rounding of sums over some 1500 values
    assert distance(vae.decode(latents), video[None]) < 1e-4


@torch.no_grad()
def test_its_decoder_sees_one_latent_ahead_and_no_further(randomised) -> None:
    """What the look-ahead of a stream rests on: frames of latent t depend on latent t + 1, but not on t + 2."""
    vae = randomised(WaveletVAE(**SMALL, time_interpolation="trilinear"))
    latents = torch.randn(1, 8, 5, 2, 2, generator=torch.Generator().manual_seed(1))
    changed = latents.clone()
    changed[:, :, 3] += 1
    first = (vae.decode(changed) - vae.decode(latents)).abs().amax((0, 1, 3, 4)).nonzero()[0].item()
    assert 1 + 8 * 1 <= first < 1 + 8 * 2


@pytest.mark.parametrize("release", SIZES)
def test_its_size_is_the_published_one(release: str) -> None:
    knobs, sizes = SIZES[release]
    with torch.device("meta"):
        vae = WaveletVAE(**knobs)
    counts = [sum(p.numel() for p in half.parameters()) / 1e6 for half in (vae.encoder, vae.decoder)]
    assert tuple(round(count, 1) for count in counts) == sizes


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"temporal_stride": 2}, "temporal_stride=2 is neither 4 nor 8"),
    ],
)
def test_knobs_that_make_no_model_are_refused(knobs: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        WaveletVAE(**knobs)

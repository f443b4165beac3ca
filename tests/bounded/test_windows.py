"""Windows: equal to diffusers' own windows where it has them; a clip within one window is the whole clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo
from torch import nn

from videogen.bounded import WindowedVAE
from videogen.checkpoints.layouts import hunyuan, ltx
from videogen.vae import VAES

HUNYUAN: dict[str, Any] = {
    "latent_channels": 4,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "down_block_types": ("HunyuanVideoDownBlock3D",) * 4,
    "up_block_types": ("HunyuanVideoUpBlock3D",) * 4,
}


def cut_by_diffusers(vae: nn.Module, window: int, stride: int) -> nn.Module:
    vae.use_framewise_encoding = vae.use_framewise_decoding = True
    vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames = window, stride
    return vae.eval()


@pytest.mark.parametrize(("frames", "window", "stride"), [(37, 16, 12), (33, 16, 8), (45, 8, 8), (9, 16, 12)])
def test_windows_equal_those_of_hunyuan_video(frames, window, stride, randomised, translated, distance) -> None:
    truth = cut_by_diffusers(randomised(AutoencoderKLHunyuanVideo(**HUNYUAN)), window, stride)
    ours = WindowedVAE(translated(hunyuan.LAYOUT, truth), window=window, stride=stride)
    video = torch.rand(1, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        latents = ours.encode(video).mode()
        assert distance(latents, truth.encode(video).latent_dist.mean) <= 1e-5
        decoded = ours.decode(latents)
        assert decoded.shape == video.shape
        assert distance(decoded, truth.decode(latents).sample) <= 1e-5
        for size in (1, 5):
            assert distance(torch.cat(list(ours.encode_stream(video.split(size, dim=2))), dim=2), latents) <= 1e-6
            assert distance(torch.cat(list(ours.decode_stream(latents.split(size, dim=2))), dim=2), decoded) <= 1e-6


def test_windows_equal_those_of_ltx_video(randomised, translated, distance) -> None:
    """The encoder's. Decoding, diffusers drops the last frame of later windows, not the first, which comes one late."""
    truth = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        patch_size=2,
    )
    cut_by_diffusers(randomised(truth), 16, 8)
    ours = WindowedVAE(translated(ltx.LAYOUT, truth), window=16, stride=8)
    ratio = ours.spec.spatial_stride
    video = torch.rand(1, 3, 41, 2 * ratio, ratio, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        latents = ours.encode(video).mode()
        assert distance(latents, truth.encode(video).latent_dist.mean) <= 1e-5
        decoded, theirs = ours.decode(latents), truth.decode(latents).sample
    # up to where the second window fades in, and where nothing of the one before is left, both agree but for that frame
    assert distance(decoded[:, :, :9], theirs[:, :, :9]) <= 1e-5


@pytest.fixture
def vae(randomised):
    return randomised(VAES.build("hunyuan", base_channels=8, num_res_blocks=1, norm_groups=4, latent_channels=4))


def test_a_clip_within_one_window_is_the_whole_clip(vae, distance) -> None:
    ours = WindowedVAE(vae, window=16, stride=12)
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    with torch.no_grad():
        assert distance(ours.encode(video).mode(), vae.encode(video).mode()) <= 1e-6
        latents = vae.encode(video).mode()
        assert distance(ours.decode(latents), vae.decode(latents)) <= 1e-6


@pytest.mark.parametrize("name", ["vqvae", "hunyuan"])
def test_no_frame_is_lost_or_made(name: str, randomised) -> None:
    knobs = {"base_channels": 8, "num_res_blocks": 1} | ({} if name == "vqvae" else {"norm_groups": 4})
    vae = randomised(VAES.build(name, latent_channels=4, **knobs))
    ours = WindowedVAE(vae, window=8, stride=4)
    alone, ratio = int(vae.spec.first_frame_alone), vae.spec.temporal_stride
    for latents in range(1, 8):
        frames = alone + ratio * (latents - alone) if latents > alone else alone
        video = torch.rand(1, 3, frames, 16, 16) * 2 - 1
        with torch.no_grad():
            encoded = ours.encode(video).mode()
            assert encoded.shape[2] == latents
            assert ours.decode(encoded).shape == video.shape


def test_samples_have_the_full_spread(vae) -> None:
    video = torch.rand(1, 3, 33, 16, 16) * 2 - 1
    with torch.no_grad():
        posterior = WindowedVAE(vae, window=16, stride=8).encode(video)
        assert posterior.sample(torch.Generator().manual_seed(0)).shape == posterior.mode().shape
        with pytest.raises(ValueError, match="windows"):
            posterior.kl()


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [(10, 8, "window 10"), (16, 6, "stride 6"), (16, 4, "half of the window"), (8, 16, "half of the window")],
)
def test_windows_that_do_not_fit_are_refused(window: int, stride: int, message: str, vae) -> None:
    with pytest.raises(ValueError, match=message):
        WindowedVAE(vae, window=window, stride=stride)

"""The image autoencoder frame by frame: equal to diffusers' AutoencoderKL on the same weights, each frame alone."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from videogen.checkpoints.layouts.sd import LAYOUT
from videogen.vae.framewise import FramewiseVAE

STABLE_DIFFUSION = {
    "block_out_channels": (16, 32, 64, 64),
    "norm_num_groups": 8,
    "layers_per_block": 2,
    "latent_channels": 4,
}
# the layout of Stable Diffusion 3 and Flux, and levels of another number and width
NO_QUANT = {
    "block_out_channels": (32, 96, 64),
    "norm_num_groups": 32,
    "layers_per_block": 1,
    "latent_channels": 6,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": False,
}


@pytest.mark.parametrize("config", [STABLE_DIFFUSION, NO_QUANT], ids=["stable-diffusion", "no-quant"])
@pytest.mark.parametrize("size", [(24, 40), (56, 8)])
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
@torch.no_grad()
def test_it_equals_diffusers(
    randomised, translated, distance, config, size: tuple[int, int], dtype, limit: float
) -> None:
    levels = len(config["block_out_channels"])
    down, up = ("DownEncoderBlock2D",) * levels, ("UpDecoderBlock2D",) * levels
    truth = randomised(AutoencoderKL(down_block_types=down, up_block_types=up, **config)).to(dtype)
    vae = translated(LAYOUT, truth)
    video = torch.randn(2, 3, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(1))
    posterior = vae.encode(video)
    wanted = [truth.encode(frame).latent_dist for frame in video.unbind(2)]
    assert distance(posterior.mode(), torch.stack([latents.mean for latents in wanted], 2)) < limit
    assert distance(posterior.logvar, torch.stack([latents.logvar for latents in wanted], 2)) < limit
    frames = [truth.decode(latents).sample for latents in posterior.mode().unbind(2)]
    assert distance(vae.decode(posterior.mode()), torch.stack(frames, 2)) < limit


def test_its_size_is_the_published_one() -> None:
    """83.65M parameters, as the autoencoder of Stable Diffusion has."""
    with torch.device("meta"):
        assert sum(p.numel() for p in FramewiseVAE().parameters()) == 83_653_863


@torch.no_grad()
def test_no_frame_sees_another(randomised) -> None:
    vae = randomised(FramewiseVAE(base_channels=8, norm_groups=4, num_res_blocks=1))
    video = torch.randn(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    changed = video.clone()
    changed[:, :, 2] += 1
    latents, moved = vae.encode(video).mode(), vae.encode(changed).mode()
    assert touched(latents, moved) == [2]
    assert touched(vae.decode(latents), vae.decode(moved)) == [2]


def touched(before: Tensor, after: Tensor) -> list[int]:
    return (before - after).abs().amax((0, 1, 3, 4)).gt(1e-5).nonzero().flatten().tolist()


@pytest.mark.parametrize("frames", [1, 2, 5])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, frames: int) -> None:
    vae = randomised(FramewiseVAE(base_channels=8, norm_groups=4, num_res_blocks=1))
    video = torch.randn(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


def test_no_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="give at least 1"):
        FramewiseVAE(channel_multipliers=())

"""CogVideoX's autoencoder: equal to diffusers' on the same weights, batch by batch; streams equal the whole clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import Tensor, nn

from videogen.checkpoints.layouts.cogvideox import LAYOUT
from videogen.vae.cogvideox import CogVideoXVAE

PUBLISHED: dict[str, Any] = {
    "latent_channels": 4,
    "block_out_channels": (8, 16, 16, 32),
    "layers_per_block": 2,
    "norm_num_groups": 4,
}
# another number of levels, blocks and groups, and a width that stays on the way
OTHER: dict[str, Any] = {
    "latent_channels": 3,
    "block_out_channels": (12, 12, 24),
    "layers_per_block": 1,
    "norm_num_groups": 3,
    "scaling_factor": 0.7,
}
SMALL: dict[str, Any] = {"latent_channels": 4, "base_channels": 8, "norm_groups": 2, "num_res_blocks": 1}


def oracle(config: dict[str, Any]) -> nn.Module:
    levels = len(config["block_out_channels"])
    down, up = ("CogVideoXDownBlock3D",) * levels, ("CogVideoXUpBlock3D",) * levels
    return AutoencoderKLCogVideoX(down_block_types=down, up_block_types=up, **config)


# one frame; one batch; a batch and two more, where only caches know the past
@pytest.mark.parametrize(
    ("config", "size"),
    [
        (PUBLISHED, (1, 24, 40)),
        (PUBLISHED, (9, 24, 16)),
        (PUBLISHED, (25, 16, 16)),
        (OTHER, (17, 12, 20)),
    ],
    ids=["published-1f", "published-9f", "published-25f", "other-17f"],
)
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
@torch.no_grad()
def test_it_equals_diffusers(
    randomised, translated, distance, config, size: tuple[int, int, int], dtype, limit: float
) -> None:
    truth = randomised(oracle(config)).to(dtype)
    vae = translated(LAYOUT, truth)
    video = torch.randn(2, 3, *size, dtype=dtype, generator=torch.Generator().manual_seed(1))
    posterior, wanted = vae.encode(video), truth.encode(video).latent_dist
    assert distance(posterior.mode(), wanted.mean) < limit
    assert distance(posterior.logvar, wanted.logvar) < limit
    decoded = vae.decode(wanted.mean)
    assert decoded.shape == video.shape
    assert distance(decoded, truth.decode(wanted.mean).sample) < limit


def test_its_size_and_scale_are_the_published_ones() -> None:
    with torch.device("meta"):
        truth = AutoencoderKLCogVideoX()
        knobs = LAYOUT.knobs(truth.config, truth.state_dict())
        vae = CogVideoXVAE(**knobs)
        default = CogVideoXVAE()
    assert vae.spec.scale == (1.15258426,) * 16
    assert sum(p.numel() for p in vae.parameters()) == sum(p.numel() for p in truth.parameters())
    assert default.state_dict().keys() == vae.state_dict().keys()
    assert all(default.state_dict()[key].shape == value.shape for key, value in vae.state_dict().items())
    back = LAYOUT.to_published(vae.state_dict(), knobs)
    assert {key: value.shape for key, value in back.items()} == {k: v.shape for k, v in truth.state_dict().items()}


def test_its_layout_is_told_by_the_class_name() -> None:
    assert LAYOUT.recognise({"_class_name": "AutoencoderKLCogVideoX"}, ())
    assert not LAYOUT.recognise({"_class_name": "AutoencoderKL"}, ())
    with pytest.raises(ValueError, match="use_quant_conv=True: only False is supported"):
        LAYOUT.knobs({"use_quant_conv": True}, ())


@pytest.mark.parametrize("frames", [1, 9, 17, 33])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, frames: int) -> None:
    vae = randomised(CogVideoXVAE(**SMALL))
    video = torch.randn(2, 3, frames, 16, 8, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4, frames):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@torch.no_grad()
def test_a_batch_does_not_see_those_after_it(randomised) -> None:
    vae = randomised(CogVideoXVAE(**SMALL))
    video = torch.randn(1, 3, 25, 8, 8, generator=torch.Generator().manual_seed(1))
    changed = video.clone()
    changed[:, :, 12] += 1
    latents, moved = vae.encode(video).mode(), vae.encode(changed).mode()
    # the norms spread a change over its batch, which is the second one; the caches carry it on
    assert touched(latents, moved) == [3, 4, 5, 6]
    moved = latents.clone()
    moved[:, :, 4] += 1
    assert touched(vae.decode(latents), vae.decode(moved)) == list(range(9, 25))


def touched(before: Tensor, after: Tensor) -> list[int]:
    return (before - after).abs().amax((0, 1, 3, 4)).gt(1e-6).nonzero().flatten().tolist()


@torch.no_grad()
def test_lengths_that_would_come_back_otherwise_are_refused() -> None:
    """Diffusers encodes 5 frames to 2 latents and decodes those to 8 frames, 13 to 4 and 16."""
    vae = CogVideoXVAE(**SMALL)
    for frames, nearest in ((5, "1 or 9"), (13, "9 or 17"), (8, "1 or 9"), (2, "1 or 9")):
        video = torch.zeros(1, 3, frames, 8, 8)
        for refused in (vae.spec.latent_shape, lambda *size: vae.encode(torch.zeros(1, 3, *size))):
            with pytest.raises(ValueError, match=f"^{frames} frames do not fit a temporal stride .*use {nearest}$"):
                refused(frames, 8, 8)
        with pytest.raises(ValueError, match=f"^{frames} frames do not fit .*use {nearest}$"):
            list(vae.encode_stream(video.split(3, dim=2)))
    for count, nearest in ((0, "1"), (2, "1 or 3"), (4, "3 or 5")):
        latents = torch.zeros(1, 4, count, 1, 1)
        with pytest.raises(ValueError, match=f"^{count} latent frames do not fit batches of 2 .*use {nearest}$"):
            vae.decode(latents)
        if count:
            with pytest.raises(ValueError, match=f"^{count} latent frames do not fit .*use {nearest}$"):
                list(vae.decode_stream(latents.split(1, dim=2)))


def test_too_few_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="has 2 levels, but time is halved 2 times: give at least 3"):
        CogVideoXVAE(channel_multipliers=(1, 2))

"""HunyuanVideo's autoencoder: equal to diffusers' on the same weights; causal but for its norms; whole clips only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
from torch import Tensor, nn

from videogen.checkpoints.layouts.hunyuan import LAYOUT
from videogen.vae.hunyuan import CausalAttention, HunyuanVAE

PUBLISHED: dict[str, Any] = {
    "latent_channels": 4,
    "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 2,
    "norm_num_groups": 2,
}
# another number of levels, blocks and groups, no attention, and a width that stays on the way
OTHER: dict[str, Any] = {
    "latent_channels": 3,
    "block_out_channels": (6, 6, 12),
    "layers_per_block": 1,
    "norm_num_groups": 3,
    "spatial_compression_ratio": 4,
    "mid_block_add_attention": False,
}


def oracle(config: dict[str, Any]) -> nn.Module:
    levels = len(config["block_out_channels"])
    vae = AutoencoderKLHunyuanVideo(
        down_block_types=("HunyuanVideoDownBlock3D",) * levels,
        up_block_types=("HunyuanVideoUpBlock3D",) * levels,
        **config,
    )
    # left alone it cuts clips of more than 16 frames into pieces that overlap, and blends them
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return vae


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (PUBLISHED, (1, 24, 40)),
        (PUBLISHED, (5, 24, 16)),
        (PUBLISHED, (21, 16, 24)),
        (OTHER, (9, 12, 20)),
    ],
    ids=["published-1f", "published-5f", "published-21f", "other-9f"],
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
    # rounding of some 40 layers: both are up to 7e-6 from the float64 result, and 6e-6 from each other
    decoded = vae.decode(wanted.mean)
    assert decoded.shape == video.shape
    assert distance(decoded, truth.decode(wanted.mean).sample) < limit


def test_its_size_and_scale_are_the_published_ones() -> None:
    with torch.device("meta"):
        truth = AutoencoderKLHunyuanVideo()
        knobs = LAYOUT.knobs(truth.config, truth.state_dict())
        vae = HunyuanVAE(**knobs)
        default = HunyuanVAE()
    assert vae.spec.scale == (0.476986,) * 16
    assert sum(p.numel() for p in vae.parameters()) == sum(p.numel() for p in truth.parameters())
    assert default.state_dict().keys() == vae.state_dict().keys()
    assert all(default.state_dict()[key].shape == value.shape for key, value in vae.state_dict().items())
    back = LAYOUT.to_published(vae.state_dict(), knobs)
    assert {key: value.shape for key, value in back.items()} == {k: v.shape for k, v in truth.state_dict().items()}


def test_its_layout_is_told_by_the_class_name() -> None:
    assert LAYOUT.recognise({"_class_name": "AutoencoderKLHunyuanVideo"}, ())
    assert not LAYOUT.recognise({"_class_name": "AutoencoderKLHunyuanVideo15"}, ())
    config = {"block_out_channels": [4, 8, 8], "spatial_compression_ratio": 8}
    with pytest.raises(ValueError, match="spatial_compression_ratio=8 with 3 levels: only 4 is supported"):
        LAYOUT.knobs(config, ())


@torch.no_grad()
def test_attention_looks_back_and_not_ahead(randomised) -> None:
    layer = randomised(CausalAttention(4))
    clip = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(1))
    changed = clip.clone()
    changed[:, :, 2] += torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(2))
    assert touched(layer(clip), layer(changed)) == [2, 3, 4]


def touched(before: Tensor, after: Tensor) -> list[int]:
    return (before - after).abs().amax((0, 1, 3, 4)).gt(1e-6).nonzero().flatten().tolist()


@torch.no_grad()
def test_it_refuses_chunks_and_takes_a_whole_clip(randomised, streamed) -> None:
    vae = randomised(HunyuanVAE(latent_channels=4, base_channels=4, norm_groups=2, num_res_blocks=1))
    video = torch.randn(1, 3, 5, 16, 8, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    assert torch.equal(streamed(vae.encode_stream, video, 5), latents)
    assert torch.equal(streamed(vae.decode_stream, latents, 2), vae.decode(latents))
    for stream, given in ((vae.encode_stream, video), (vae.decode_stream, latents)):
        with pytest.raises(ValueError, match="take mean and variance over all frames"):
            streamed(stream, given, 1)


def test_too_few_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="has 2 levels, but time is halved 2 times: give at least 3"):
        HunyuanVAE(channel_multipliers=(1, 2))

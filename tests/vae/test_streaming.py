"""The streaming machinery: what a cache holds, and how chunks are cut anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.vae._streaming import CausalVAE, StreamCache, filled, only_chunk, regroup
from videogen.vae.causal3d import Causal3DVAE
from videogen.vae.cogvideox import CogVideoXVAE
from videogen.vae.framewise import FramewiseVAE
from videogen.vae.ltx import LTXVAE
from videogen.vae.mochi import MochiVAE
from videogen.vae.wan import WanVAE
from videogen.vae.wavelet import WaveletVAE

STREAMING = {
    "wavelet": lambda: WaveletVAE(base_channels=8, encoder_flow=8, time_interpolation="trilinear"),
    "causal3d": lambda: Causal3DVAE(base_channels=8, num_res_blocks=1, norm="channel"),
    "framewise": lambda: FramewiseVAE(base_channels=8, num_res_blocks=1, norm_groups=4),
}
# the causal families, at the smallest sizes
NARROW: dict[str, Any] = {"base_channels": 4, "channel_multipliers": (1, 1, 1, 1), "num_res_blocks": 1}
LONG = {
    "wavelet": lambda: WaveletVAE(base_channels=4, encoder_flow=4, num_res_blocks=1, time_interpolation="trilinear"),
    "wavelet-8": lambda: WaveletVAE(
        temporal_stride=8, base_channels=4, encoder_flow=4, num_res_blocks=1, time_interpolation="trilinear"
    ),
    "causal3d": lambda: Causal3DVAE(**NARROW, norm="channel"),
    "causal3d-mixed": lambda: Causal3DVAE(**NARROW, norm="channel", time_resampling="mixed"),
    "wan": lambda: WanVAE(**NARROW),
    "wan-2.2": lambda: WanVAE(**NARROW, shortcuts=True, patch_size=2),
    "cogvideox": lambda: CogVideoXVAE(base_channels=8, norm_groups=4, num_res_blocks=1),
    "mochi": lambda: MochiVAE(
        latent_channels=4,
        encoder_widths=(4, 4, 8, 8),
        decoder_widths=(4, 8, 4, 8),
        num_res_blocks=(1, 1, 1, 1, 1),
        head_dim=2,
        norm_groups=2,
    ),
    "ltx": lambda: LTXVAE(
        latent_channels=4,
        patch_size=2,
        encoder_widths=(4, 8, 8),
        encoder_blocks=(1, 1, 1),
        downsamplers=("conv", "conv"),
        decoder_widths=(4, 8, 8),
        decoder_blocks=(1, 1, 1),
        upsamplers=(True, True),
        decoder_causal=True,
    ),
}


@pytest.mark.parametrize("name", LONG)
@torch.no_grad()
def test_a_long_stream_equals_the_whole_clip(name: str, randomised, streamed, distance) -> None:
    """97 frames of one position, in chunks: what a cache forgets or keeps too long shows late."""
    # norms of a few channels amplify the rounding of float32 to 1e-5; that of float64 comes to 3e-14
    vae = randomised(LONG[name]()).double()
    size = (97, vae.spec.spatial_stride, vae.spec.spatial_stride)
    video = torch.randn(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    assert decoded.shape == video.shape
    for chunk in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, chunk), latents) < 1e-11
        assert distance(streamed(vae.decode_stream, latents, chunk), decoded) < 1e-11


def held(cache: StreamCache) -> int:
    """Bytes of memory that a cache keeps alive."""
    return sum(tensor.untyped_storage().nbytes() for tensor in cache.values())


@pytest.mark.parametrize("name", STREAMING)
@torch.no_grad()
def test_a_cache_holds_a_few_frames_whatever_the_chunk(name: str) -> None:
    vae: CausalVAE = STREAMING[name]()
    stride, alone = vae.spec.temporal_stride, int(vae.spec.first_frame_alone)
    sizes: dict[str, list[int]] = {"video": [], "latents": []}
    video, latents = StreamCache(), StreamCache()
    for chunk in (alone or 1, stride, 2 * stride):
        vae.encode_chunk(torch.zeros(1, 3, chunk, 16, 16), video)
        vae.decode_chunk(torch.zeros(1, vae.spec.latent_channels, chunk, 2, 2), latents)
        sizes["video"].append(held(video))
        sizes["latents"].append(held(latents))
    for kept in sizes.values():
        # the layer that doubles frames first remembers one when it has seen a neighbour
        assert kept[1] == kept[2] >= kept[0]
    for tensor in (*video.values(), *latents.values()):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def numbered(*lengths: int) -> list[Tensor]:
    """Chunks of these lengths whose frames count on."""
    return list(torch.arange(float(sum(lengths))).view(1, 1, -1, 1, 1).split(lengths, dim=2))


def frames(chunks: list[Tensor]) -> list[list[int]]:
    return [chunk.flatten().int().tolist() for chunk in chunks]


def first_then_pairs(waiting: int, first: bool) -> int:
    return 1 if first else waiting // 2 * 2


def test_chunks_are_cut_where_the_layers_can_take_them() -> None:
    cut = regroup(numbered(2, 0, 1, 1, 5), first_then_pairs, "frames")
    assert frames(list(cut)) == [[0], [1, 2], [3, 4, 5, 6, 7, 8]]
    with pytest.raises(ValueError, match="last 1 frames don't fill a temporal stride"):
        list(regroup(numbered(2, 2), first_then_pairs, "frames"))


def test_empty_chunks_count_for_nothing() -> None:
    assert frames(list(filled(numbered(0, 2, 0, 1)))) == [[0, 1], [2]]
    assert frames(list(only_chunk(numbered(0, 3, 0), "reason"))) == [[0, 1, 2]]
    with pytest.raises(ValueError, match=r"several chunks .*: reason"):
        list(only_chunk(numbered(1, 2), "reason"))


@torch.no_grad()
def test_an_empty_chunk_is_no_look_ahead(randomised, streamed) -> None:
    vae = randomised(STREAMING["wavelet"]())
    latents = torch.randn(1, 8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    gaps = [latents[:, :, :2], latents[:, :, :0], latents[:, :, 2:]]
    torch.testing.assert_close(torch.cat(list(vae.decode_stream(gaps)), dim=2), vae.decode(latents))

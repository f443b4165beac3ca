"""Allegro's autoencoder: equal to diffusers' on the same weights, tile by tile; streams; clips that no tiles fill."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLAllegro
from torch import nn

from videogen.checkpoints.layouts.allegro import LAYOUT
from videogen.vae import VAES
from videogen.vae._tiles import Tiles
from videogen.vae.allegro import AllegroVAE

PUBLISHED: dict[str, Any] = {"block_out_channels": (4, 8, 8, 8), "norm_num_groups": 2, "layers_per_block": 1}
# another number of levels and blocks, and time changes elsewhere
OTHER: dict[str, Any] = {
    "block_out_channels": (6, 12, 6),
    "down_block_types": ("AllegroDownBlock3D",) * 3,
    "up_block_types": ("AllegroUpBlock3D",) * 3,
    "temporal_downsample_blocks": (False, True, False),
    "temporal_upsample_blocks": (True, False, False),
    "temporal_compression_ratio": 2,
    "latent_channels": 3,
    "layers_per_block": 2,
    "norm_num_groups": 3,
}
#: knobs of a small one, 4x2x2
TINY: dict[str, Any] = {
    "base_channels": 4,
    "channel_multipliers": (1, 2),
    "num_res_blocks": 1,
    "time_downsample": (True, True),
    "time_upsample": (True, True),
    "norm_groups": 2,
}
SMALL_TILES: dict[str, Any] = {"tile": (8, 8, 8), "overlap": (4, 4, 2)}


def loaded(truth: nn.Module, **more: Any) -> AllegroVAE:
    """Our part with diffusers' weights, which come back as they were."""
    published = truth.state_dict()
    knobs = {**LAYOUT.knobs(truth.config, published), **more}
    vae = VAES.build("allegro", **knobs).eval()
    vae.load_state_dict(LAYOUT.to_ours(published, vae, knobs))
    back = LAYOUT.to_published(vae.state_dict(), knobs)
    assert back.keys() == published.keys()
    assert all(torch.equal(back[key], value) for key, value in published.items())
    return vae


# tiles of frames, height and width, what they share, and a clip that they fill: 2 x 2 x 1 tiles, or 2 x 1 x 2
CASES = {
    "published": (PUBLISHED, (8, 16, 16), (4, 8, 8), (12, 24, 16)),
    "other": (OTHER, (4, 8, 8), (2, 4, 4), (6, 8, 12)),
}


@pytest.mark.parametrize(("config", "tile", "overlap", "size"), CASES.values(), ids=CASES)
@torch.no_grad()
def test_it_equals_diffusers(randomised, distance, config: dict[str, Any], tile, overlap, size) -> None:
    truth = randomised(AutoencoderKLAllegro(**config))
    truth.enable_tiling()
    truth.kernel, truth.stride = tile, tuple(whole - shared for whole, shared in zip(tile, overlap, strict=True))
    vae = loaded(truth, tile=tile, overlap=overlap)
    video = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    posterior, wanted = vae.encode(video), truth.encode(video).latent_dist
    assert distance(posterior.mode(), wanted.mean) < 1e-5
    assert distance(posterior.logvar, wanted.logvar) < 1e-5
    # frames stand before channels there
    assert distance(vae.decode(wanted.mean), truth.decode(wanted.mean).sample.movedim(1, 2)) < 1e-5


@pytest.mark.parametrize("frames", [4, 12, 20])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, frames: int) -> None:
    vae = randomised(AllegroVAE(**TINY, **SMALL_TILES))
    video = torch.randn(1, 3, frames, 10, 8, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    assert decoded.shape == video.shape
    for size in (1, 3):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-6
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-6


@torch.no_grad()
def test_tiles_are_given_out_before_the_clip_ends(randomised) -> None:
    vae = randomised(AllegroVAE(**TINY, **SMALL_TILES))
    taken = 0

    def frames():
        nonlocal taken
        for chunk in torch.zeros(1, 3, 24, 4, 4).split(4, dim=2):
            taken += 1
            yield chunk

    stream = vae.encode_stream(frames())
    # of the first window of 8 frames 4 are known, and the second comes with the next 4
    assert (next(stream).shape[2], taken) == (1, 2)
    assert (next(stream).shape[2], taken) == (1, 3)
    assert sum(latents.shape[2] for latents in stream) == 4
    with pytest.raises(ValueError, match=r"6 frames do not fit a temporal stride of 4: use 4 or 8"):
        list(vae.encode_stream([torch.zeros(1, 3, 10, 4, 4)]))
    assert list(vae.encode_stream([])) == list(vae.decode_stream([])) == []


@torch.no_grad()
def test_time_that_is_not_cut_needs_the_whole_clip(randomised, streamed) -> None:
    vae = randomised(AllegroVAE(**TINY, tile=(0, 0, 0), overlap=(0, 0, 0)))
    video = torch.randn(1, 3, 12, 6, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(streamed(vae.encode_stream, video, 12), vae.encode(video).mode())
    with pytest.raises(ValueError, match="its norms take mean and variance over all frames"):
        streamed(vae.encode_stream, video, 4)


def cut(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """First place and length of the tiles of a line."""
    line = torch.arange(float(length)).view(1, 1, -1, 1, 1)
    return [(int(tile.flatten()[0]), tile.shape[2]) for tile in Tiles(2, size, overlap).cut([line])]


def test_the_last_tile_is_as_short_as_the_clip_leaves_it() -> None:
    assert cut(8, 8, 4) == [(0, 8)]
    assert cut(5, 8, 4) == [(0, 5)]
    assert cut(12, 8, 4) == [(0, 8), (4, 8)]
    assert cut(13, 8, 4) == [(0, 8), (4, 8), (8, 5)]
    # nothing shared: nothing is left where the tiles fill the line
    assert cut(16, 8, 0) == [(0, 8), (8, 8)]
    assert cut(0, 8, 4) == []
    # as published: 88 frames in 5 windows, 720 rows in 3, 1280 columns in 5
    for (length, size, overlap), count in {(88, 24, 8): 5, (720, 320, 120): 3, (1280, 320, 80): 5}.items():
        tiles = cut(length, size, overlap)
        assert (len(tiles), tiles[-1]) == (count, (length - size, size))


@pytest.mark.parametrize("axis", [2, 3, 4])
@pytest.mark.parametrize("length", [5, 8, 12, 13, 17])
def test_tiles_that_are_left_alone_join_to_what_they_were(axis: int, length: int) -> None:
    shape = [2, 3, 4, 5, 6]
    shape[axis] = length
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tiles = Tiles(axis, 8, 4)
    joined = torch.cat(list(tiles.join(tiles.cut(x.split(3, dim=axis)))), dim=axis)
    torch.testing.assert_close(joined, x, rtol=0, atol=1e-15)


def test_tiles_fade_linearly() -> None:
    parts = [torch.full((1, 1, 1, 1, 8), value) for value in (0.0, 1.0)]
    joined = torch.cat(list(Tiles(4, 8, 4).join(parts)), dim=4).flatten().tolist()
    assert joined == [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1]


COMMON = {
    "block_out_channels": [128, 256, 512, 512],
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 320,
}
DIFFUSERS = COMMON | {
    "_class_name": "AutoencoderKLAllegro",
    "temporal_downsample_blocks": [True, True, False, False],
    "temporal_upsample_blocks": [False, True, True, False],
    "temporal_compression_ratio": 4,
    "scaling_factor": 0.13,
}
# the names of allegro/models/vae/vae_allegro.py
AUTHORS = COMMON | {
    "_class_name": "AllegroAutoencoderKL3D",
    "blocks_tempdown_li": [True, True, False, False],
    "blocks_tempup_li": [False, True, True, False],
    "tile_overlap": [120, 80],
    "chunk_len": 24,
    "t_over": 8,
    "scale_factor": 0.13,
}


def test_its_layout_reads_diffusers_config_and_its_authors() -> None:
    told = LAYOUT.knobs(DIFFUSERS, {})
    assert told == LAYOUT.knobs(AUTHORS, {})
    assert (told["tile"], told["overlap"]) == ((24, 320, 320), (8, 120, 80))
    assert LAYOUT.recognise(DIFFUSERS, ())
    assert LAYOUT.recognise(AUTHORS, ())
    with pytest.raises(ValueError, match="temporal_compression_ratio=8: only 4 is supported"):
        LAYOUT.knobs({**DIFFUSERS, "temporal_compression_ratio": 8}, {})


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="time_upsample has 3 values for 2 channel_multipliers"):
        AllegroVAE(**{**TINY, "time_upsample": (True, True, False)})
    with pytest.raises(ValueError, match="time_downsample halves 1 times and time_upsample doubles 2 times"):
        AllegroVAE(**{**TINY, "time_downsample": (True, False)})
    with pytest.raises(ValueError, match="tiles of 24 height that share 7: both must be multiples of 2"):
        AllegroVAE(**TINY, tile=(8, 24, 24), overlap=(4, 7, 8))
    with pytest.raises(ValueError, match="tiles of 8 frames that share 8: use 4 at most"):
        AllegroVAE(**TINY, tile=(8, 24, 24), overlap=(8, 8, 8))
    with pytest.raises(ValueError, match="4 channels do not split into norm_groups=3"):
        AllegroVAE(**{**TINY, "norm_groups": 3})

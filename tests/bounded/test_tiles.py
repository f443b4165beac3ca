"""Tiles: what they cover and weigh, equality where no layer sees a border, nearness on a real clip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import videogen
from videogen.bounded import TiledVAE, on_meta, receptive_field
from videogen.bounded.cuts import Axis, blend, cut, window
from videogen.data.video import read_video
from videogen.vae import VAES

CLIPS = sorted((Path(__file__).parents[1] / "fixtures" / "big_buck_bunny").rglob("*.mp4"))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 20, 31, 100])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 1), (8, 2), (8, 4), (16, 5)])
def test_tiles_cover_a_side_and_their_weights_add_up_to_one(length: int, tile: int, overlap: int) -> None:
    axis = cut(length, tile, overlap)
    assert axis.size <= tile
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.size == length
    total = torch.zeros(length)
    for index, start in enumerate(axis.starts):
        if index:
            assert axis.starts[index - 1] + axis.size - start >= overlap, "neighbours share too little"
        total[start : start + axis.size] += window(axis, index)
    # neighbours may share one position more than was asked for: those weigh more, and `blend` divides by the sum
    assert total.min() > 0.99
    frame = torch.randn(1, 2, 3, length, length)
    places = [(top, left) for top in axis.starts for left in axis.starts]
    pieces = [frame[..., top : top + axis.size, left : left + axis.size] for top, left in places]
    assert torch.allclose(blend(pieces, axis, axis), frame, atol=1e-6)


def test_what_saw_the_cut_weighs_nothing() -> None:
    axis = Axis((0, 8), 16, 8)
    assert not window(axis, 0)[-2:].any()
    assert not window(axis, 1)[:2].any()
    assert window(axis, 0)[:10].eq(1).all()


@pytest.fixture
def convolutional(randomised):
    """Causal convolutions and norms over channels alone: nothing sees a whole frame."""
    knobs = {"base_channels": 4, "encoder_flow": 4, "num_res_blocks": 1, "use_attention": False}
    return randomised(VAES.build("wavelet", latent_channels=4, **knobs)).double()


def test_tiles_beyond_the_receptive_field_equal_the_whole_frame(convolutional, distance) -> None:
    hollow = on_meta(convolutional)
    reach = receptive_field(lambda: hollow.decode(torch.empty(1, 4, 2, 16, 16, device="meta").double()), hollow, 16)
    assert 2 < reach <= 16
    # so that the dropped quarter is as wide as what a border disturbs
    overlap = 4 * int(reach + 1)
    tiled = TiledVAE(convolutional, tile=16 * overlap, overlap=8 * overlap)
    torch.manual_seed(0)
    latents = torch.randn(1, 4, 2, 8, 3 * overlap).double()
    with torch.no_grad():
        whole, got = convolutional.decode(latents), tiled.decode(latents)
        assert distance(got, whole) <= 1e-12
        assert distance(torch.cat(list(tiled.decode_stream(latents.split(1, dim=2))), dim=2), got) <= 1e-12
        # a narrower border is disturbed: the reach is no idle number
        narrow = TiledVAE(convolutional, tile=128, overlap=16).decode(latents)
        assert distance(narrow, whole) > 1e-9


@pytest.mark.parametrize("name", ["wavelet", "hunyuan", "framewise"])
def test_a_tiled_vae_keeps_the_contract(name: str, randomised, distance) -> None:
    small = {"base_channels": 8, "num_res_blocks": 1}
    vae = randomised(VAES.build(name, **small, **({} if name == "wavelet" else {"norm_groups": 4})))
    tiled = TiledVAE(vae, tile=32, overlap=16)
    frames = vae.spec.fitting_length(5)
    video = torch.rand(2, 3, frames, 40, 56) * 2 - 1
    with torch.no_grad():
        posterior = tiled.encode(video)
        shape = (2, *vae.spec.latent_shape(frames, 40, 56))
        assert posterior.mode().shape == posterior.sample(torch.Generator().manual_seed(0)).shape == shape
        with pytest.raises(ValueError, match="training"):
            posterior.kl()
        rebuilt = tiled.decode(posterior.mode())
        assert rebuilt.shape == video.shape
        chunks = [video] if vae.whole_clip_only else video.split(3, dim=2)
        streamed = torch.cat(list(tiled.encode_stream(chunks)), dim=2)
        assert distance(streamed, posterior.mode()) <= 1e-5
        # a frame within one tile is the VAE's own business
        small_frame = video[..., :32, :32]
        assert torch.allclose(tiled.encode(small_frame).mode(), vae.encode(small_frame).mode(), atol=1e-6)


def test_a_sample_is_drawn_by_one_tile_alone(randomised) -> None:
    vae = randomised(VAES.build("framewise", base_channels=8, num_res_blocks=1, norm_groups=4))
    tiled = TiledVAE(vae, tile=32, overlap=16)
    video = torch.rand(1, 3, 64, 48, 48) * 2 - 1
    with torch.no_grad():
        posterior = tiled.encode(video)
        noise = posterior.sample(torch.Generator().manual_seed(0)) - vae.encode(video).mode()
        spread = noise.std(dim=2).mean(dim=(0, 1))
    # a blend of two independent draws would have 0.7 of the spread in the middle
    assert float(spread[2:4].mean() / spread[:2].mean()) > 0.85


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [(100, 16, "tile 100"), (64, 12, "overlap 12"), (64, 40, "32 or less"), (8, 8, "tile 8"), (64, 0, "overlap 0")],
)
def test_tiles_that_do_not_fit_are_refused(tile: int, overlap: int, message: str, convolutional) -> None:
    with pytest.raises(ValueError, match=message):
        TiledVAE(convolutional, tile=tile, overlap=overlap)


@pytest.mark.slow
def test_the_shipped_model_in_tiles_is_within_45_decibel_of_the_whole() -> None:
    vae = videogen.pipeline("model=shapes").vae
    video = read_video(CLIPS[0], max_frames=17).frames[None]
    video = video[..., : video.shape[3] // 8 * 8, : video.shape[4] // 8 * 8]
    assert min(video.shape[3:]) > 96, "no tile would be cut"
    with torch.no_grad():
        whole = vae.decode(vae.encode(video).mode())
        tiled = TiledVAE(vae, tile=96, overlap=48)
        got = tiled.decode(tiled.encode(video).mode())
    error = (got.clamp(-1, 1) - whole.clamp(-1, 1)).square().mean()
    assert 10 * torch.log10(4 / error) >= 45

"""A video through a tiny real VAE and back: whole or in chunks, of any length and size."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.pipelines.reconstruct import reconstruct, reconstruct_pairs, reconstruct_stream
from videogen.vae.causal3d import Causal3DVAE
from videogen.vae.wavelet import WaveletVAE


@pytest.fixture(scope="module")
def vae() -> WaveletVAE:
    torch.manual_seed(0)
    return WaveletVAE(base_channels=8, latent_channels=4, encoder_flow=8, num_res_blocks=1).eval()


def clip(frames: int, height: int, width: int) -> Tensor:
    return torch.rand(3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def padded_by_hand(video: Tensor, frames: int, height: int, width: int) -> Tensor:
    """(3, T, H, W) -> the same with its last frame, row and column repeated, by indexing alone."""
    for dim, length in ((1, frames), (2, height), (3, width)):
        video = video.index_select(dim, torch.arange(length).clamp(max=video.shape[dim] - 1))
    return video


@pytest.mark.parametrize(
    ("size", "padded"),
    [((9, 16, 24), (9, 16, 24)), ((1, 8, 8), (1, 8, 8)), ((11, 17, 22), (13, 24, 24)), ((2, 5, 9), (5, 8, 16))],
)
@torch.no_grad()
def test_it_is_the_whole_clip_encoded_and_decoded(
    vae: WaveletVAE, size: tuple[int, int, int], padded: tuple[int, int, int]
) -> None:
    video = clip(*size)
    whole = vae.decode(vae.encode(padded_by_hand(video, *padded)[None]).mode())[0]
    expected = whole[:, : size[0], : size[1], : size[2]].clamp(-1, 1)
    for chunk in (1, 3, 4, 100):
        result = reconstruct(vae, video, chunk=chunk)
        assert result.shape == video.shape
        # streams equal the whole clip up to the order of float32 sums
        torch.testing.assert_close(result, expected, atol=2e-5, rtol=0)


def test_no_frame_is_dropped_or_added(vae: WaveletVAE) -> None:
    for frames in range(1, 15):
        assert reconstruct(vae, clip(frames, 8, 8), chunk=5).shape[1] == frames


def test_frames_come_out_before_all_are_in(vae: WaveletVAE) -> None:
    video, taken = clip(33, 8, 8), []

    def chunks() -> Iterator[Tensor]:
        for i in range(0, 33, 4):
            taken.append(i)
            yield video[:, i : i + 4]

    pieces, lag = [], []
    for piece in reconstruct_stream(vae, chunks()):
        pieces.append(piece)
        lag.append(4 * len(taken) - sum(p.shape[1] for p in pieces))
    assert torch.equal(torch.cat(pieces, dim=1), reconstruct(vae, video, chunk=4))
    # never further behind than a chunk and a stride
    assert max(lag) <= 8


@pytest.mark.parametrize("lengths", [(1, 2, 3, 4, 5), (15,), (4, 4, 4, 3)])
def test_each_frame_meets_its_own_reconstruction(vae: WaveletVAE, lengths: tuple[int, ...]) -> None:
    video = clip(15, 9, 16)
    pairs = list(reconstruct_pairs(vae, video.split(lengths, dim=1)))
    assert torch.equal(torch.cat([original for original, _ in pairs], dim=1), video)
    rebuilt = torch.cat([rebuilt for _, rebuilt in pairs], dim=1)
    torch.testing.assert_close(rebuilt, reconstruct(vae, video), atol=2e-5, rtol=0)
    assert all(original.shape == rebuilt.shape for original, rebuilt in pairs)
    assert not list(reconstruct_pairs(vae, []))


def live_bytes() -> int:
    """Memory of all tensors there are; those that share it count once."""
    tensors = [thing for thing in gc.get_objects() if type(thing) is Tensor]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def bytes_at_the_end(vae: WaveletVAE, num_chunks: int) -> int:
    """The memory that tensors have taken when the last chunk of four frames has been used."""
    before, taken = live_bytes(), 0

    def chunks() -> Iterator[Tensor]:
        nonlocal taken
        for _ in range(num_chunks):
            yield torch.rand(3, 4, 16, 24) * 2 - 1
        taken = live_bytes() - before

    assert sum(original.shape[1] for original, _ in reconstruct_pairs(vae, chunks())) == 4 * num_chunks
    return taken


def test_memory_does_not_grow_with_length(vae: WaveletVAE) -> None:
    short, long = bytes_at_the_end(vae, 4), bytes_at_the_end(vae, 16)
    assert short > 3 * 4 * 16 * 24 * 4, "the count misses even one chunk"
    assert long <= 1.15 * short


def test_the_result_stays_in_range_and_keeps_no_graph(vae: WaveletVAE) -> None:
    loud = WaveletVAE(base_channels=8, latent_channels=4, encoder_flow=8, num_res_blocks=1)
    with torch.no_grad():
        loud.decoder.out.bias.fill_(5.0)
    result = reconstruct(loud, clip(5, 8, 8))
    assert result.abs().max() == 1
    assert not result.requires_grad


def test_a_vae_in_half_precision_takes_float_video() -> None:
    torch.manual_seed(0)
    half = WaveletVAE(base_channels=8, latent_channels=4, encoder_flow=8, num_res_blocks=1).bfloat16()
    result = reconstruct(half, clip(6, 12, 8))
    assert result.dtype == torch.float32
    assert result.isfinite().all()


def test_what_is_no_video(vae: WaveletVAE) -> None:
    for wrong in (torch.zeros(1, 3, 5, 8, 8), torch.zeros(5, 3, 8, 8), torch.zeros(3, 0, 8, 8)):
        with pytest.raises(ValueError, match=r"a video is \(3, T, H, W\)"):
            reconstruct(vae, wrong)
    with pytest.raises(ValueError, match="chunk is 0 frames"):
        reconstruct(vae, clip(5, 8, 8), chunk=0)


def test_padding_repeats_edges() -> None:
    # torch's own replicate padding agrees with the indices above
    video = clip(2, 5, 9)
    assert torch.equal(padded_by_hand(video, 2, 8, 16), F.pad(video, (0, 7, 0, 3), mode="replicate"))


@torch.no_grad()
def test_a_vae_that_cannot_be_cut_gets_the_whole_clip() -> None:
    torch.manual_seed(0)
    whole = Causal3DVAE(base_channels=32, latent_channels=4, channel_multipliers=(1, 1, 1, 1), num_res_blocks=1).eval()
    assert whole.whole_clip_only
    video = clip(11, 17, 22)
    expected = whole.decode(whole.encode(padded_by_hand(video, 13, 24, 24)[None]).mode())[0, :, :11, :17, :22]
    rebuilt = reconstruct(whole, video, chunk=4)
    torch.testing.assert_close(rebuilt, expected.clamp(-1, 1), rtol=0, atol=1e-5)
    # a stream is gathered for it, and both come out at once
    ((original, streamed),) = reconstruct_pairs(whole, video.split(4, dim=1))
    assert torch.equal(original, video)
    assert torch.equal(streamed, rebuilt)
    assert not list(reconstruct_pairs(whole, []))

"""Video files that are written, whole and in chunks, and what is left when that fails."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import pytest
import torch

from videogen.data.video import VideoError, VideoWriter, check_writable, read_video, write_video


def gradient(frames: int, height: int, width: int) -> torch.Tensor:
    """A smooth video that compresses with hardly any error, every frame brighter than the last."""
    t = torch.linspace(-0.3, 0.3, frames)[:, None, None]
    y, x = torch.linspace(-0.6, 0.6, height)[:, None], torch.linspace(-0.6, 0.6, width)
    return torch.stack([t + y + 0 * x, t + 0 * y + x, t - y / 2 - x / 2])


def write_chunks(path: Path, chunks: Iterable[torch.Tensor]) -> None:
    with VideoWriter(path, 24) as writer:
        for chunk in chunks:
            writer.write(chunk)


def sampling_that_stops() -> Iterator[torch.Tensor]:
    yield gradient(2, 16, 16)
    raise RuntimeError("sampling stopped")


@pytest.mark.parametrize(("height", "width"), [(32, 48), (720, 1280)])
def test_colours_come_back(tmp_path: Path, height: int, width: int) -> None:
    levels = (0, 255) if height > 32 else (0, 64, 128, 200, 255)
    colours = torch.tensor(list(itertools.product(levels, repeat=3)), dtype=torch.float32)
    video = (colours / 127.5 - 1).T[:, :, None, None].expand(-1, -1, height, width)
    path = tmp_path / "flat.mp4"
    write_video(path, video, 24)
    again = read_video(path).frames
    assert again.shape == video.shape
    # two roundings of luma and chroma cost up to two levels, the encoder one more
    assert ((again - video) * 127.5).abs().max() <= 3.01


@pytest.mark.parametrize(("height", "width", "matrix"), [(32, 48, 6), (720, 1280, 1)])
def test_the_file_is_one_that_players_open(tmp_path: Path, height: int, width: int, matrix: int) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, gradient(2, height, width), 24)
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, stream.frames) == ("h264", "yuv420p", 2)
        # BT.601 or BT.709, as players guess from the size; limited range; primaries and transfer of BT.709
        tags = context.colorspace, context.color_range, context.color_primaries, context.color_trc
        assert tags == (matrix, 1, 1, 1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 48), (32, 47), (35, 51)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "odd.mp4"
    video = gradient(3, height, width)
    size = write_video(path, video, 24)
    assert size == (height + height % 2, width + width % 2)
    again = read_video(path).frames
    assert tuple(again.shape[2:]) == size
    assert (again[:, :, :height, :width] - video).abs().mean() < 0.02
    if height % 2:
        assert (again[:, :, -1] - again[:, :, -2]).abs().mean() < 0.02


@pytest.mark.parametrize("fps", [1, 12, 24, 23.976, 29.97, 60])
@pytest.mark.parametrize("frames", [1, 2, 30])
def test_length_and_rate_come_back(tmp_path: Path, fps: float, frames: int) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, gradient(frames, 16, 16), fps)
    again = read_video(path)
    assert again.frames.shape == (3, frames, 16, 16)
    assert again.fps == pytest.approx(fps, rel=1e-4)


def test_chunks_written_make_the_same_file(tmp_path: Path) -> None:
    video = gradient(11, 32, 48)
    write_video(tmp_path / "whole.mp4", video, 12)
    with VideoWriter(tmp_path / "chunks.mp4", 12) as writer:
        for chunk in video.split(4, dim=1):
            writer.write(chunk)
            assert not (tmp_path / "chunks.mp4").exists()
    assert writer.num_frames == 11
    assert (tmp_path / "chunks.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_one_video_makes_one_file(tmp_path: Path) -> None:
    # x264's macroblock tree made twenty different files of this one
    path, video, made = tmp_path / "clip.mp4", gradient(33, 64, 64), set()
    for _ in range(20):
        write_video(path, video, 12)
        made.add(path.read_bytes())
    assert len(made) == 1


def test_any_float_type_with_gradient_and_beyond_the_range(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    video = gradient(2, 32, 48)
    write_video(path, (video * 3).requires_grad_(), 24)
    assert (read_video(path).frames - (video * 3).clamp(-1, 1)).abs().mean() < 0.03
    write_video(path, video.bfloat16(), 24)
    assert (read_video(path).frames - video).abs().mean() < 0.02


def test_nan_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    video = gradient(20, 16, 16)
    video[1, 13, 2, 3] = torch.nan
    with pytest.raises(VideoError, match=r"1 of 15360 values are NaN, the first in frame 13"):
        write_video(tmp_path / "nan.mp4", video, 24)
    # in a later chunk, when a file is under way
    with pytest.raises(VideoError, match="the first in frame 13"):
        write_chunks(tmp_path / "nan.mp4", torch.split(video, 4, dim=1))
    video[1, 13, 2, 3] = torch.inf
    with pytest.raises(VideoError, match="1 of 15360 values are infinite"):
        write_video(tmp_path / "nan.mp4", video, 24)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_older_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, gradient(2, 16, 16), 24)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="sampling stopped"):
        write_chunks(path, sampling_that_stops())
    with pytest.raises(VideoError, match="one video has one size"):
        write_chunks(path, [gradient(2, 16, 16), gradient(2, 18, 16)])
    with pytest.raises(VideoError, match="no frames were given"):
        write_chunks(path, [])
    # the encoder itself refuses: x264 takes no side above 16384
    with pytest.raises(VideoError, match="can't be written"):
        write_video(path, torch.zeros(3, 1, 2, 16400), 24)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("video", "told"),
    [
        (torch.zeros(1, 3, 4, 8, 8), r"pass one clip of the batch, like video\[0\]"),
        (torch.zeros(4, 3, 8, 8), r"this tensor is \(4, 3, 8, 8\): permute it"),
        (torch.zeros(3, 0, 8, 8), "holds no pixels"),
        (torch.zeros(3, 4, 8, 8, dtype=torch.uint8), r"torch\.uint8: use x / 127\.5 - 1"),
    ],
)
def test_what_is_no_video_is_not_written(tmp_path: Path, video: torch.Tensor, told: str) -> None:
    with pytest.raises(VideoError, match=told):
        write_video(tmp_path / "clip.mp4", video, 24)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -24, 1e6, float("nan"), float("inf")])
def test_rates_that_are_none(tmp_path: Path, fps: float) -> None:
    with pytest.raises(VideoError, match=r"fps is .*above 0 and at most 1000"):
        write_video(tmp_path / "clip.mp4", gradient(1, 16, 16), fps)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    check_writable(tmp_path / "clip.mp4")
    check_writable(tmp_path / "CLIP.MP4")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for path, told in {
        tmp_path: r"is a directory: add a file name",
        tmp_path / "clip.avi": r"doesn't end in \.mp4.*use .*clip\.mp4",
        tmp_path / "clip": r"doesn't end in \.mp4",
        tmp_path / "absent" / "clip.mp4": r"absent doesn't exist: create it with mkdir -p",
        tmp_path / "file" / "clip.mp4": r"can't be written|isn't a folder",
        tmp_path / f"{'a' * 300}.mp4": "name too long",
    }.items():
        with pytest.raises(VideoError, match=told):
            check_writable(path)
        with pytest.raises(VideoError, match=told):
            write_video(path, gradient(1, 16, 16), 24)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where not even root creates files")
def test_a_folder_that_takes_no_files() -> None:
    with pytest.raises(VideoError, match=r"can't be written \(.*choose another folder"):
        check_writable("/proc/clip.mp4")

"""Video files that are read, and those that are refused: really cut, really damaged, really too large."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from videogen.data.video import VideoError, iter_frames, open_video, read_video

CLIP = Path(__file__).parents[1] / "fixtures" / "big_buck_bunny" / "clips" / "018.mp4"


def encode(
    path: Path, size: tuple[int, int], frames: int = 2, *, rotation: int = 0, options: dict | None = None
) -> Path:
    """A file straight from the encoder, for what the library never writes."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for value in range(frames):
            pixels = np.full((*size, 3), 20 * value, np.uint8)
            pixels[: size[0] // 2, : size[1] // 2] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def png(width: int, height: int) -> bytes:
    """A PNG whose header promises a size and whose pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_clip_is_what_ffmpeg_decodes() -> None:
    video = read_video(CLIP)
    assert video.frames.shape == (3, 17, 144, 256)
    assert video.frames.dtype == torch.float32
    assert video.fps == 12.0
    assert -1 <= video.frames.min() < -0.9
    assert 0.9 < video.frames.max() <= 1
    with av.open(str(CLIP)) as container:
        planes = [frame.to_ndarray() for frame in container.decode(video=0)]
    luma = torch.from_numpy(np.stack(planes)[:, :144]).float()
    # BT.601, as the file is tagged: what the red, green and blue of every pixel say of its luma
    red, green, blue = (video.frames + 1) * 127.5
    again = 16 + 219 / 255 * (0.299 * red + 0.587 * green + 0.114 * blue)
    assert (again - luma).abs().mean() < 0.6  # bytes are rounded twice, and colours out of gamut are clipped


def test_chunks_are_the_whole_clip() -> None:
    whole = read_video(CLIP).frames
    for size in (1, 5, 17, 40):
        chunks = list(iter_frames(CLIP, size))
        assert [chunk.shape[1] for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
        assert torch.equal(torch.cat(chunks, dim=1), whole)


def test_max_frames_cuts_the_end_off() -> None:
    whole = read_video(CLIP).frames
    assert torch.equal(read_video(CLIP, max_frames=4).frames, whole[:, :4])
    assert torch.equal(torch.cat(list(iter_frames(CLIP, 3, max_frames=7)), dim=1), whole[:, :7])
    assert read_video(CLIP, max_frames=100).frames.shape[1] == 17
    for wrong in ({"max_frames": 0}, {"max_frames": -3}):
        with pytest.raises(VideoError, match=r"max_frames is .*1 or more"):
            read_video(CLIP, **wrong)
    with pytest.raises(VideoError, match="size is 0"):
        next(iter_frames(CLIP, 0))


def test_a_reader_goes_on_where_it_stopped() -> None:
    whole = read_video(CLIP).frames
    with open_video(CLIP) as reader:
        assert (reader.height, reader.width, reader.num_frames, reader.fps) == (144, 256, 17, 12.0)
        first, second = reader.read(6), reader.read(6)
    assert torch.equal(torch.cat([first, second], dim=1), whole[:, :12])


def test_a_turned_phone_gives_upright_frames(tmp_path: Path) -> None:
    plain = read_video(encode(tmp_path / "plain.mp4", (32, 48))).frames
    turned = read_video(encode(tmp_path / "turned.mp4", (32, 48), rotation=90)).frames
    assert turned.shape == (3, 2, 48, 32)
    # the bright quarter is at the top left; a quarter turn counterclockwise puts it at the bottom left
    assert torch.equal(turned, torch.rot90(plain, 1, (2, 3)))
    assert turned[0, 0, 36:, :12].min() > 0.9


def test_an_untagged_large_file_is_bt709_like_players_think(tmp_path: Path) -> None:
    path = tmp_path / "untagged.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 720, 1280, "yuv420p"
        # pure green: Y = 16 + 219 * 0.7152, Cb = 128 - 224 * 0.7152 / 1.8556, Cr = 128 - 224 * 0.7152 / 1.5748
        frame = av.VideoFrame.from_ndarray(
            np.concatenate([np.full(720 * 1280, 173), np.full(360 * 640, 42), np.full(360 * 640, 26)])
            .astype(np.uint8)
            .reshape(1080, 1280),
            format="yuv420p",
        )
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    colour = (read_video(path).frames[:, 0].mean(dim=(1, 2)) + 1) * 127.5
    assert (colour - torch.tensor([0.0, 255.0, 0.0])).abs().max() <= 3


# what can't be read


def test_no_file_a_folder_and_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"absent\.mp4: no such file"):
        read_video(tmp_path / "absent.mp4")
    with pytest.raises(VideoError, match="is not a file"):
        read_video(tmp_path)
    for name, data in {"text.mp4": b"once upon a time\n" * 50, "empty.mp4": b"", "noise.mp4": os.urandom(5000)}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(VideoError, match=f"{name} is no video"):
            read_video(tmp_path / name)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="no video stream: it holds audio"):
        read_video(path)


def test_a_video_of_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "none.y4m"
    path.write_bytes(b"YUV4MPEG2 W16 H16 F24:1 C420\n")
    with pytest.raises(VideoError, match="holds no frames"):
        read_video(path)


def test_a_file_cut_before_its_index(tmp_path: Path) -> None:
    # without +faststart the index is at the end, as cameras write it
    data = encode(tmp_path / "camera.mp4", (64, 64), 12).read_bytes()
    assert data.find(b"moov") > data.find(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: data.find(b"moov")])
    with pytest.raises(VideoError, match=r"cut\.mp4 is no video, is cut off before its index"):
        read_video(cut)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, None])
def test_a_file_cut_after_its_index(tmp_path: Path, share: float | None) -> None:
    data = CLIP.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    cut = tmp_path / "cut.mp4"
    # the last byte alone is missed, too
    size = len(data) - 1 if share is None else int(len(data) * share)
    cut.write_bytes(data[:size])
    with pytest.raises(VideoError, match=rf"truncated: its frames reach to byte {len(data)} and it has {size}"):
        read_video(cut)
    with pytest.raises(VideoError, match="truncated"):
        next(iter_frames(cut))


def test_damage_inside_is_found_and_the_frames_before_it_can_be_read(tmp_path: Path) -> None:
    data = bytearray(CLIP.read_bytes())
    with av.open(str(CLIP)) as container:
        starts = [entry.pos for entry in container.streams.video[0].index_entries]
    for position in np.random.default_rng(0).integers(starts[5] + 8, starts[16], 60):
        data[position] ^= 0x55
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"damaged at frame \d+ .*copy it anew") as caught:
        read_video(path)
    good = int(str(caught.value).rpartition("=")[2])
    assert 0 < good < 17
    # frames are decoded in parallel and damage spreads forwards, so that the very last good one may differ
    assert torch.equal(read_video(path, max_frames=good).frames[:, :1], read_video(CLIP, max_frames=1).frames)


def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    wide.write_bytes(png(100_000, 100_000))
    with pytest.raises(VideoError, match=r"above 2\*\*28 pixels"):
        read_video(wide)
    stated = tmp_path / "stated.y4m"
    stated.write_bytes(b"YUV4MPEG2 W100000 H100000 F24:1 C420\nFRAME\n" + bytes(100))
    with pytest.raises(VideoError, match=r"above 2\*\*28 pixels"):
        read_video(stated)
    large = tmp_path / "large.png"
    large.write_bytes(png(3000, 2000))
    with pytest.raises(
        VideoError, match=r"1 frames of 3000x2000 are 6000000 pixels and the limit is 1000000: read fewer"
    ):
        read_video(large, max_pixels=10**6)


def test_too_many_frames_are_refused_by_the_header_and_if_that_is_silent_by_count(tmp_path: Path) -> None:
    frame = 144 * 256
    with pytest.raises(
        VideoError, match=rf"17 frames of 256x144 are {17 * frame} pixels and the limit is {16 * frame}"
    ):
        read_video(CLIP, max_pixels=16 * frame)
    assert read_video(CLIP, max_pixels=16 * frame, max_frames=16).frames.shape[1] == 16
    assert sum(chunk.shape[1] for chunk in iter_frames(CLIP, 4, max_pixels=4 * frame)) == 17
    with pytest.raises(VideoError, match="5 frames"):
        next(iter_frames(CLIP, 5, max_pixels=4 * frame))
    silent = encode(tmp_path / "silent.mkv", (32, 32), 9)
    with pytest.raises(VideoError, match="6 frames of 32x32"):
        read_video(silent, max_pixels=5 * 32 * 32)


def test_a_playlist_reaches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError):
        read_video(path)


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http:clip.mp4").write_bytes(CLIP.read_bytes())
    assert read_video("http:clip.mp4").frames.shape[1] == 17

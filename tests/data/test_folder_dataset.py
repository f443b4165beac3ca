"""The dataset of a folder of real clips: what it gives, that it gives it again, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from videogen.data import DATASETS
from videogen.data.folder import Folder
from videogen.data.video import VideoError, read_video, write_video

FIXTURE = Path(__file__).parents[1] / "fixtures" / "big_buck_bunny"
ENTRIES = [json.loads(line) for line in (FIXTURE / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def data() -> Folder:
    return Folder(path=str(FIXTURE))


def write_metadata(folder: Path, *lines: dict[str, Any] | str) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


def copy_clips(folder: Path) -> None:
    shutil.copytree(FIXTURE / "clips", folder / "clips")


def test_the_registry_has_it_and_its_knobs() -> None:
    assert "folder" in DATASETS.names()
    assert {knob.name for knob in DATASETS.knobs("folder")} == {"path", "split", "cache_mb", "seed"}
    built = DATASETS.build("folder", path=str(FIXTURE), split="test")
    assert built.clip(0, 5, 16, 16).video.shape == (3, 5, 16, 16)


@pytest.mark.parametrize("size", [(1, 16, 16), (17, 144, 256), (9, 33, 57), (5, 64, 24), (3, 200, 300), (4, 144, 144)])
def test_clips_have_the_size_that_was_asked_for(data: Folder, size: tuple[int, int, int]) -> None:
    for index in range(6):
        clip = data.clip(index, *size)
        assert clip.video.shape == (3, *size)
        assert clip.video.dtype == torch.float32
        assert clip.video.abs().max() <= 1
        assert clip.video.std() > 0.01
        assert clip.text in {entry["text"] for entry in ENTRIES}


def test_a_clip_is_a_function_of_its_index(data: Folder) -> None:
    again = Folder(path=str(FIXTURE), cache_mb=0)
    # in another order, and with nothing cached
    for index in (7, 0, 3, 7):
        ours, theirs = data.clip(index, 5, 24, 32), again.clip(index, 5, 24, 32)
        assert torch.equal(ours.video, theirs.video)
        assert ours.text == theirs.text
    other = Folder(path=str(FIXTURE), seed=1)
    assert not torch.equal(other.clip(0, 5, 24, 32).video, data.clip(0, 5, 24, 32).video)
    assert not torch.equal(data.clip(3, 5, 24, 32).video, data.clip(6, 5, 24, 32).video)


def test_every_pass_shows_every_clip_that_is_long_enough_once(data: Folder) -> None:
    texts = {entry["text"] for entry in ENTRIES}
    orders = [[data.clip(3 * epoch + i, 2, 16, 16).text for i in range(3)] for epoch in range(12)]
    assert all(set(order) == texts for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    (longest,) = (entry["text"] for entry in ENTRIES if entry["num_frames"] == 25)
    assert {data.clip(i, 25, 16, 16).text for i in range(4)} == {longest}


def test_at_full_size_the_pixels_are_those_of_the_file(data: Folder) -> None:
    by_text = {entry["text"]: entry["file_name"] for entry in ENTRIES}
    starts = set()
    for index in range(8):
        clip = data.clip(index, 15, 144, 256)
        whole = read_video(FIXTURE / by_text[clip.text]).frames
        windows = whole.unfold(1, 15, 1).movedim(-1, 2)  # (3, starts, 15, H, W)
        found = [i for i in range(windows.shape[1]) if torch.equal(windows[:, i], clip.video)]
        assert len(found) == 1
        starts |= set(found)
    assert len(starts) > 2


def test_scales_go_from_the_whole_frame_to_native_pixels(tmp_path: Path) -> None:
    # brightness tells the column and the row of a pixel, and its slope the scale of the crop
    ramp = torch.linspace(-0.9, 0.9, 160)
    video = torch.stack([ramp.expand(80, 160), torch.zeros(80, 160), ramp[::2, None].expand(80, 160)])[:, None]
    size = write_video(tmp_path / "ramp.mp4", video.expand(3, 4, 80, 160), 24, crf=1)
    line = {"file_name": "ramp.mp4", "text": "", "num_frames": 4, "height": size.height, "width": size.width}
    data = Folder(path=write_metadata(tmp_path, line))
    scales, lefts = [], []
    for index in range(60):
        crop = data.clip(index, 2, 20, 30).video[:, 0]
        # inner columns, since the edges of a resized crop are extrapolated
        slope_x = float((crop[0, :, 24] - crop[0, :, 5]).mean()) / 19
        slope_y = float((crop[2, 16] - crop[2, 3]).mean()) / 13
        # the rows' ramp is twice as steep; the encoder's error counts for more at native scale
        assert slope_x == pytest.approx(slope_y / 2, rel=0.2)
        scales.append(float(ramp[1] - ramp[0]) / slope_x)
        lefts.append(float(crop[0, :, 1].mean()))
    # 20x30 of 80x160: a scale of 1/4 covers
    assert min(scales) == pytest.approx(0.25, rel=0.15)
    assert max(scales) == pytest.approx(1.0, rel=0.15)
    assert min(scales) < 0.3 < 0.5 < max(scales)
    assert max(lefts) - min(lefts) > 0.8


def test_a_part_as_wide_as_the_frame_and_the_frame_enlarged(data: Folder) -> None:
    video, text = data.clip(0, 1, 100, 256)
    (name,) = (entry["file_name"] for entry in ENTRIES if entry["text"] == text)
    whole = read_video(FIXTURE / name).frames
    # nothing to resize, so it is some rows of some frame
    tops = range(144 - 100 + 1)
    assert any(torch.equal(video[:, 0], frame[:, top : top + 100]) for frame in whole.unbind(1) for top in tops)
    # nothing to choose but the frame; Pillow's resize is the truth
    larger = data.clip(0, 1, 288, 512).video[:, 0].numpy()
    errors = [np.abs(larger - enlarged(frame.numpy(), 288, 512).clip(-1, 1)).max() for frame in whole.unbind(1)]
    assert min(errors) < 1e-4


def enlarged(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = [Image.fromarray(channel).resize((width, height), Image.Resampling.BICUBIC) for channel in frame]
    return np.stack([np.asarray(channel) for channel in resized])


def test_the_cache_stays_in_its_budget() -> None:
    data = Folder(path=str(FIXTURE), cache_mb=4)  # a clip of 17 frames is 1.8 MiB, one of 25 is 2.6 MiB
    for index in range(12):
        data.clip(index, 3, 16, 16)
        kept = sum(clip.numel() for clip in data._cache.values())
        assert 0 < kept <= 4 * 2**20
        assert all(clip.dtype == torch.uint8 for clip in data._cache.values())
    assert len(Folder(path=str(FIXTURE), cache_mb=0)._cache) == 0


# what is refused


def test_a_split_that_has_no_clips() -> None:
    with pytest.raises(VideoError, match=r"0 of 3 clips in .* are of split 'tset': splits are test$"):
        Folder(path=str(FIXTURE), split="tset")
    assert len(Folder(path=str(FIXTURE), split="test").entries) == 3


def test_no_path_no_folder_no_metadata(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="needs a path"):
        Folder()
    with pytest.raises(VideoError, match="is not a folder"):
        Folder(path=str(tmp_path / "absent"))
    with pytest.raises(VideoError, match=r"holds no metadata\.jsonl: write one line a clip"):
        Folder(path=str(tmp_path))
    with pytest.raises(VideoError, match="0 of 0 clips"):
        Folder(path=write_metadata(tmp_path, ""))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"file_name": "../secret.mp4"}, "leads out of the folder"),
        ({"file_name": "clips/../../secret.mp4"}, "leads out of the folder"),
        ({"file_name": "..\\secret.mp4"}, "leads out of the folder"),
        ({"file_name": "/etc/passwd"}, "leads out of the folder"),
        ({"file_name": "C:/secret.mp4"}, "leads out of the folder"),
        ({"file_name": ""}, "1 of 1 clips are missing"),
        ({"file_name": "clips/absent.mp4"}, r"1 of 1 clips are missing in .*, the first is clips/absent\.mp4"),
        ({"file_name": 7}, "file_name is 7: it must be text"),
        ({"text": None}, "text is None: it must be text"),
        ({"num_frames": 0}, "num_frames is 0: it must be a whole number above 0"),
        ({"num_frames": True}, "num_frames is True"),
        ({"width": "256"}, "width is '256'"),
    ],
)
def test_wrong_lines(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    write_video(tmp_path / "secret.mp4", torch.zeros(3, 2, 16, 16), 24)
    inside = tmp_path / "inside"
    inside.mkdir()
    copy_clips(inside)
    with pytest.raises(VideoError, match=told):
        Folder(path=write_metadata(inside, {**ENTRIES[0], **change}))


def test_a_wrong_line_is_told_by_its_number(tmp_path: Path) -> None:
    copy_clips(tmp_path)
    short = {"file_name": "clips/018.mp4", "text": "", "height": 144}
    for line, told in (
        ("{", r"metadata\.jsonl, line 3: Expecting"),
        ("[1, 2]", r"line 3: \[1, 2\] is not an object"),
        (short, "line 3: num_frames, width missing"),
    ):
        with pytest.raises(VideoError, match=told):
            Folder(path=write_metadata(tmp_path, ENTRIES[0], "", line))
    (tmp_path / "metadata.jsonl").write_bytes(json.dumps(ENTRIES[0]).encode() + b"\n\xff\n")
    with pytest.raises(VideoError, match="not UTF-8"):
        Folder(path=str(tmp_path))


def test_files_that_are_not_what_their_line_says(tmp_path: Path) -> None:
    copy_clips(tmp_path)
    long = Folder(path=write_metadata(tmp_path, {**ENTRIES[0], "num_frames": 40}))
    with pytest.raises(VideoError, match=r"018\.mp4 has 17 frames and metadata\.jsonl says 40"):
        long.clip(0, 4, 16, 16)
    wide = Folder(path=write_metadata(tmp_path, {**ENTRIES[0], "width": 320}))
    with pytest.raises(VideoError, match=r"018\.mp4 is 256x144 and metadata\.jsonl says 320x144"):
        wide.clip(0, 4, 16, 16)
    (tmp_path / "clips" / "018.mp4").write_bytes(b"no video")
    broken = Folder(path=write_metadata(tmp_path, ENTRIES[0]))
    with pytest.raises(VideoError, match=r"018\.mp4 is no video"):
        broken.clip(0, 4, 16, 16)


def test_clips_that_cannot_be_given(data: Folder) -> None:
    with pytest.raises(VideoError, match=r"0 of 3 clips in .* have 26 frames: the longest has 25"):
        data.clip(0, 26, 16, 16)
    for wrong in ((-1, 4, 16, 16), (0, 0, 16, 16), (0, 4, 0, 16), (0, 4, 16, -2)):
        with pytest.raises(VideoError, match="sizes start at 1, indices at 0"):
            data.clip(*wrong)
    with pytest.raises(VideoError, match="seed -1 is negative"):
        Folder(path=str(FIXTURE), seed=-1)

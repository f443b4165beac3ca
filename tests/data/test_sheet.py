"""What is written for people to look at, read back."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from videogen.data.sheet import contact_sheet, side_by_side
from videogen.data.video import VideoError


def read_png(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_a_sheet_shows_the_first_and_the_last_frame_enlarged(tmp_path: Path) -> None:
    video = torch.linspace(-1, 1, 16)[None, :, None, None].expand(3, 16, 40, 64)
    contact_sheet(video, tmp_path / "sheet.png", columns=4, num_frames=8)
    sheet = read_png(tmp_path / "sheet.png")
    # enlarged four times to 160x256, two rows and four columns, with two white pixels between
    assert sheet.shape == (2 * 160 + 2, 4 * 256 + 3 * 2, 3)
    assert sheet[0, 0].tolist() == [0, 0, 0]
    assert sheet[-1, -1].tolist() == [255, 255, 255]
    assert sheet[160, :].min() == 255
    shown = [int(sheet[162 * row, 258 * column, 0]) for row in range(2) for column in range(4)]
    assert shown == [round(round(15 * i / 7) * 17) for i in range(8)]


def test_a_sheet_of_one_large_odd_frame_is_that_frame(tmp_path: Path) -> None:
    video = torch.rand(3, 1, 131, 177) * 2 - 1
    contact_sheet(video, tmp_path / "sheet.png")
    expected = ((video[:, 0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.array_equal(read_png(tmp_path / "sheet.png"), expected)
    with pytest.raises(VideoError, match=r"doesn't end in \.png"):
        contact_sheet(video, tmp_path / "sheet.jpg")
    with pytest.raises(VideoError, match="both must be 1 or more"):
        contact_sheet(video, tmp_path / "sheet.png", columns=0)
    assert [file.name for file in tmp_path.iterdir()] == ["sheet.png"]


def test_two_clips_side_by_side() -> None:
    a, b = torch.rand(3, 3, 8, 10), torch.rand(3, 3, 8, 10)
    both = side_by_side(a, b, separator=3)
    assert both.shape == (3, 3, 8, 23)
    assert torch.equal(both[..., :10], a)
    assert torch.equal(both[..., 10:13], torch.ones(3, 3, 8, 3))
    assert torch.equal(both[..., 13:], b)
    with pytest.raises(VideoError, match="crop to one shape"):
        side_by_side(a, b[:, :2])
    b[1, 2, 3, 4] = torch.nan
    with pytest.raises(VideoError, match="NaN, the first in frame 42"):
        side_by_side(a, b, start=40)

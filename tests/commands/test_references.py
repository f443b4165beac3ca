"""What a film is made from, read from files: brought to its size and rate, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.cli import main
from videogen.commands.references import read_references
from videogen.data.resample import resampled
from videogen.data.sheet import contact_sheet
from videogen.data.video import VideoError, read_video, write_video


def film(frames: int, height: int = 64, width: int = 64) -> Tensor:
    """Each frame brighter than the one before."""
    return torch.linspace(-1, 1, frames).view(-1, 1, 1).expand(3, -1, height, width).contiguous()


def config(**given: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("image", "last_image", "video", "other", "mask"))
    return {"height": 64, "width": 64, "fps": 8, "task": {"name": "text_to_video"}} | nothing | given


@pytest.mark.parametrize(
    ("fps", "wanted", "numbers"),
    [
        (16, 8, [0, 2, 4, 6, 8, 10]),
        (8, 16, [i // 2 for i in range(24)]),
        (12, 8, [0, 1, 3, 4, 6, 7, 9, 10]),
        (30, 29.97, list(range(12))),
    ],
)
def test_a_moment_shows_what_was_shown_then(fps: float, wanted: float, numbers: list[int]) -> None:
    video = film(12, 8, 8)
    assert torch.equal(resampled(video, fps, wanted), video[:, numbers])


def test_rates_are_positive() -> None:
    with pytest.raises(VideoError, match="0 frames a second to 8: both must be above 0"):
        resampled(film(3), 0, 8)


def test_films_of_another_size_and_rate_are_fitted_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "fast.mp4", film(24, 48, 96), 24)
    write_video(tmp_path / "same.mp4", film(9), 8)
    found = read_references(config(video=str(tmp_path / "fast.mp4"), other=str(tmp_path / "same.mp4")))
    assert found["video"].shape == (3, 8, 64, 64)
    assert torch.equal(found["other"], read_video(tmp_path / "same.mp4").frames)
    said = capsys.readouterr().err
    assert "fast.mp4 of 96x48 is cut and resized to 64x64" in said
    assert "fast.mp4 of 24 frames a second is resampled to 8: 8 of its 24 frames" in said
    assert "same.mp4" not in said


def test_a_mask_is_white_where_it_is_made_anew(tmp_path: Path) -> None:
    half = torch.full((3, 1, 128, 128), -1.0)
    half[..., 64:] = 1.0
    contact_sheet(half, tmp_path / "mask.png", columns=1)
    mask = read_references(config(mask=str(tmp_path / "mask.png")))["mask"]
    assert mask.dtype == torch.bool
    assert torch.equal(mask, (torch.arange(64) >= 32).expand(64, -1))


def test_a_film_goes_on_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "before.mp4", film(9), 8)
    out = tmp_path / "after.mp4"
    settings = [f"video={tmp_path / 'before.mp4'}", "task=extend", "task.length=20", "steps=1", f"output={out}"]
    assert main(["generate", "a red circle", *settings]) == 0
    made = read_video(out).frames
    assert made.shape == (3, 20, 64, 64)
    assert (made[:, :9] - film(9)).abs().mean() < 0.05
    assert main(["generate", "a red circle", *settings[:1], "task=loop", "image=nowhere.png"]) == 2
    assert "nowhere.png" in capsys.readouterr().err
    assert main(["generate", "a red circle", *settings[:1], f"output={tmp_path / 'no.mp4'}"]) == 2
    assert "TextToVideo would ignore video=" in capsys.readouterr().err
    assert not (tmp_path / "no.mp4").exists()

"""The four demonstrations, at tiny sizes: what the benchmark writes is what the command found."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "tests" / "fixtures" / "big_buck_bunny" / "clips" / "018.mp4"
VAE = ["model=null", "vae.base_channels=4", "vae.encoder_flow=4", "vae.num_res_blocks=1", "vae.latent_channels=4"]


@pytest.fixture
def demonstrations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, which writes its results to the test's own folder."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("harness"), "RESULTS", tmp_path / "results")
    return importlib.import_module("demonstrations")


def test_the_four_are_those_that_were_asked_for(demonstrations: ModuleType) -> None:
    assert [str(clip) for clip in demonstrations.CLIPS] == ["3s_596x336", "10s_256x256", "18s_196x196", "24s_168x96"]


def test_a_table_and_a_small_sheet_of_each(
    demonstrations: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    tiny = ["--clips", "0.5:36x20", "1:16x16", "--videos", str(tmp_path / "videos")]
    demonstrations.main([str(CLIP), *tiny, "--set", *VAE])
    results = tmp_path / "results"
    report = json.loads((results / "demonstrations.json").read_text())
    assert [(row["clip"], row["size"], row["frames"]) for row in report["rows"]] == [
        ("0.5 s", "36x20", 6),
        ("1 s", "16x16", 12),
    ]
    table = (results / "demonstrations.md").read_text()
    printed = capsys.readouterr().out
    for row, name in zip(report["rows"], ("demonstrations_0.5s_36x20", "demonstrations_1s_16x16"), strict=True):
        line = f"| {' | '.join(str(value) for value in row.values())} |"
        assert line in table
        assert line in printed
        assert f"PSNR {row['PSNR, dB']} dB, SSIM {row['SSIM']}" in printed
        assert f"![]({name}.jpg)" in table
        with Image.open(results / f"{name}.jpg") as sheet:
            assert max(sheet.size) <= 1200
        assert (tmp_path / "videos" / f"{name.removeprefix('demonstrations_')}.mp4").is_file()
    assert f"`videogen reconstruct` with {' '.join(VAE)}" in table
    assert str(CLIP.parent) not in table + json.dumps(report), "results name no folder"


def test_a_film_that_is_too_short(demonstrations: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"the film lasts 1\.4 s: 24 s are asked for"):
        demonstrations.main([str(CLIP)])
    with pytest.raises(SystemExit):
        demonstrations.main([str(CLIP), "--clips", "3:596"])
    assert not (tmp_path / "results").exists()

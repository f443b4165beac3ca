"""The benchmark of denoising at a tiny size: both models agree before they are timed, and one that is wrong isn't."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "num_layers": 1,
    "video_length": 3,
}
RUN = ["denoiser.py", "--peer", "diffusers", "--families", "latte", "--rounds", "1", "--steps", "2"]


@pytest.fixture
def denoiser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script with a tiny model, which writes its results to the test's own folder."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("harness"), "RESULTS", tmp_path)
    module = importlib.import_module("denoiser")
    peer = module.PEERS["latte"]
    monkeypatch.setitem(
        module.PEERS, "latte", peer._replace(config={**peer.config, **TINY, "caption_channels": 12}, size=(3, 4, 6))
    )
    return module


def rows(denoiser: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> list[Any]:
    monkeypatch.setattr(sys, "argv", [*RUN, *arguments])
    denoiser.main()
    found: list[Any] = json.loads((tmp_path / "denoiser_cpu.json").read_text())["rows"]
    return found


def test_a_row_of_each_dtype(denoiser: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = rows(denoiser, monkeypatch, tmp_path, "--modes", "eager", "--threads", "1")
    assert [(row["dtype"], row["mode"], row["layers"], row["tokens"]) for row in found] == [
        ("float32", "eager", 2, 36),
        ("bfloat16", "eager", 2, 36),
    ]
    for row in found:
        assert row["status"] == "ok"
        assert row["speed-up"] == pytest.approx(row["diffusers s/step"] / row["videogen s/step"])
    assert found[0]["error"] < 1e-5 < found[1]["error"] < 0.1
    assert "| latte | 2 | 36 | bfloat16 | eager |" in (tmp_path / "denoiser_cpu.md").read_text()


def test_what_is_wrong_is_not_timed(denoiser: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peer = denoiser.PEERS["latte"]

    def louder(*given: Any) -> Any:
        step = peer.step(*given)
        return lambda latents, time: 1.0001 * step(latents, time)

    monkeypatch.setitem(denoiser.PEERS, "latte", peer._replace(step=louder))
    (row,) = rows(denoiser, monkeypatch, tmp_path, "--modes", "eager", "--dtypes", "float32", "--threads", "1")
    assert row["status"] == "wrong: error above 1e-05, not timed"
    assert "speed-up" not in row

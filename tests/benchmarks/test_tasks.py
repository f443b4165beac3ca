"""The table of tasks with a tiny model: it fills up from run to run, and forgets what another model has measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
TINY = [
    *("vae.base_channels=8", "vae.encoder_flow=8", "vae.num_res_blocks=1", "vae.latent_channels=4", "weights=null"),
    *("vae.latent_shift=[]", "vae.latent_scale=[]"),
    *("denoiser.dim=24", "denoiser.depth=1", "denoiser.num_heads=2", "text.dim=16", "text.depth=1", "steps=1"),
]


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, which writes its results to the test's own folder."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(importlib.import_module("harness"), "RESULTS", tmp_path)
    return importlib.import_module("tasks")


def test_the_table_fills_up(tasks: ModuleType, tmp_path: Path) -> None:
    tasks.main(["--tasks", "1 frame", "--samples", "2", "--set", *TINY])
    # beside nothing there is nothing to tell
    assert "1 frame" not in (tmp_path / "tasks.md").read_text()
    tasks.main(["--tasks", "text_to_video", "--samples", "2", "--set", *TINY])
    report = json.loads((tmp_path / "tasks.json").read_text())
    assert list(report["jobs"]) == ["text_to_video", "1 frame"]
    table = (tmp_path / "tasks.md").read_text()
    assert "| 1 frame | everything named is right, beside the square's |" in table
    tasks.main(["--tasks", "1 frame", "--samples", "2", "--set", *TINY, "guidance=2"])
    assert list(json.loads((tmp_path / "tasks.json").read_text())["jobs"]) == ["1 frame"]


def test_every_job_is_a_config_and_every_figure_has_a_sense(tasks: ModuleType) -> None:
    for job in tasks.JOBS.values():
        tasks.compose("evaluate", [*job.overrides, "samples=2"])
        assert not job.beside or job.beside in tasks.JOBS
    told = tasks._told(tasks.Figure("x", "x", 1.5, most=True, share=False), 1.25)
    assert (told["measured"], told["target"], told["holds"]) == ("1.25", "<= 1.50", "yes")
    assert tasks._told(tasks.Figure("x", "x", 0.9), 0.89)["holds"] == "no"

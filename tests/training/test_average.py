"""Weights between two models'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import videogen
from videogen.checkpoints import save_part
from videogen.training.average import average_weights


def test_weights_lie_on_the_line_between_and_load(tmp_path: Path) -> None:
    knobs = {"kind": "text", "name": "words", "vocabulary": ["a", "red"], "dim": 16, "depth": 1, "num_heads": 2}
    build = {key: value for key, value in knobs.items() if key not in ("kind", "name", "vocabulary")}
    parts = {}
    for seed, name in enumerate(("before", "after")):
        torch.manual_seed(seed)
        parts[name] = videogen.build("text", "words", vocabulary=("a", "red"), **build)
        save_part(tmp_path / name, knobs, parts[name].state_dict())
    for share in (0.0, 0.25, 1.0):
        out = tmp_path / f"between{share}"
        average_weights(tmp_path / "before", tmp_path / "after", share, out)
        loaded = videogen.load(out).state_dict()
        before, after = (part.state_dict() for part in parts.values())
        for name, tensor in loaded.items():
            torch.testing.assert_close(tensor, (1 - share) * before[name] + share * after[name], rtol=0, atol=1e-6)
    with pytest.raises(FileExistsError, match="is there already"):
        average_weights(tmp_path / "before", tmp_path / "after", 0.5, tmp_path / "before")


def test_other_tensors_and_shares_are_refused(tmp_path: Path) -> None:
    for name, tensors in (("a", {"x": torch.zeros(2)}), ("b", {"x": torch.zeros(3), "y": torch.zeros(1)})):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    with pytest.raises(ValueError, match="they differ in x, y"):
        average_weights(tmp_path / "a", tmp_path / "b", 0.5, tmp_path / "c")
    with pytest.raises(ValueError, match=r"share=1\.5: 0 to 1"):
        average_weights(tmp_path / "a", tmp_path / "a", 1.5, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    assert sorted(load_file(tmp_path / "a" / "model.safetensors")) == ["x"]

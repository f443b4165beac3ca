"""Folders of our own format: whatever doesn't fit is named, with the file, and nothing of it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import videogen
from videogen.checkpoints import load_weights, save_part
from videogen.vae.wavelet import WaveletVAE

CONFIG = {"kind": "vae", "name": "wavelet", "base_channels": 8, "latent_channels": 4, "encoder_flow": 8}
KNOBS = {key: value for key, value in CONFIG.items() if key not in ("kind", "name")}


def build(seed: int, **knobs: Any) -> WaveletVAE:
    torch.manual_seed(seed)
    return WaveletVAE(**{**KNOBS, **knobs})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_part(tmp_path / "vae", CONFIG, build(0).state_dict())
    return tmp_path / "vae"


def equal(one: WaveletVAE, other: WaveletVAE) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_what_was_saved_is_loaded(folder: Path) -> None:
    part = build(1)
    assert not equal(part, build(0))
    load_weights(folder, CONFIG, part)
    assert equal(part, build(0))


def edit(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return spoil


def cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def pickled(folder: Path) -> None:
    """A pickle by the name of what is read: it is not even opened as one."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pickle")
    (folder / "pickle").replace(folder / "model.safetensors")


def of_another(folder: Path) -> None:
    save_part(folder, {"kind": "vae", "name": "vqvae"}, {"encoder.weight": torch.ones(2)})


SPOILT: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), FileNotFoundError, r"vae has no config\.json"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        FileNotFoundError,
        r"vae has no model\.safetensors: copy the whole folder",
    ),
    "truncated": (cut, ValueError, r"model\.safetensors can't be read .* truncated"),
    "pickled": (pickled, ValueError, r"model\.safetensors can't be read .* no safetensors file"),
    "another part": (of_another, ValueError, r"vae are of another model \(.*name: 'vqvae' saved, 'wavelet' asked"),
    "missing": (
        edit(lambda tensors: tensors.pop("decoder.out.bias")),
        ValueError,
        r"vae don't fit this model: missing in the file decoder\.out\.bias",
    ),
    "left over": (
        edit(lambda tensors: tensors.update({"decoder.more": torch.ones(1)})),
        ValueError,
        r"not in the model decoder\.more",
    ),
    "misshapen": (
        edit(lambda tensors: tensors.update({"decoder.out.bias": torch.ones(1)})),
        ValueError,
        r"of another shape decoder\.out\.bias",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_fault_is_named_and_nothing_is_loaded(folder: Path, fault: str) -> None:
    spoil, kind, message = SPOILT[fault]
    spoil(folder)
    part = build(1)
    with pytest.raises(kind, match=message):
        load_weights(folder, CONFIG, part)
    assert equal(part, build(1))


def test_another_size_is_refused_before_its_weights_are_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="base_channels: 8 saved, 16 asked for"):
        load_weights(folder, {**CONFIG, "base_channels": 16}, build(1, base_channels=16))


def test_a_config_that_is_no_json_is_named(folder: Path) -> None:
    (folder / "config.json").write_text('{"kind": "vae"')
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        load_weights(folder, CONFIG, build(1))
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        videogen.load(folder)


def test_an_older_config_without_a_knob_that_came_later_still_loads(folder: Path) -> None:
    saved = json.loads((folder / "config.json").read_text())
    asked = {**saved, "temporal_stride": 4, "linear_path": False}
    other = build(1)
    load_weights(folder, asked, other)
    # those of seed 0, not its own
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in build(0).state_dict().items())

"""The configs that Open-Sora-Plan published its causal VAEs of v1.0 and v1.1 with, and the tensors that these name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import videogen
from videogen.checkpoints import Published, save_published
from videogen.checkpoints.layouts.causalvae import LAYOUT
from videogen.checkpoints.published import recognise
from videogen.config import build_part, compose

FIXTURES = Path(__file__).parent / "fixtures"
RELEASES = {"v1_0": "osp_1_0_vae", "v1_1": "osp_1_1_vae"}
WEIGHTS = "diffusion_pytorch_model.safetensors"


def published(release: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The config, and the names and shapes of the original class that was built from it."""
    told = json.loads((FIXTURES / f"causalvae_{release}.json").read_text())
    return told["config"], {name: tuple(shape) for name, shape in told["shapes"].items()}


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_is_its_preset(release: str) -> None:
    config, shapes = published(release)
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
        node = compose("reconstruct", [f"model={RELEASES[release]}"])["vae"]
        vae = build_part("vae", node)
    assert recognise(config, tensors, "here") is LAYOUT
    knobs = LAYOUT.knobs(config, tensors)
    # refuses any knob that the preset has otherwise, and any tensor that is missing, left over or misshapen
    Published(Path(release), LAYOUT, knobs, tensors).fill(vae, node["name"], node)
    written = LAYOUT.to_published(vae.state_dict(), knobs)
    assert {name: tuple(tensor.shape) for name, tensor in written.items()} == shapes


@pytest.mark.parametrize("release", RELEASES)
def test_a_folder_of_it_loads_and_is_saved_as_it_was(release: str, tmp_path: Path) -> None:
    """At a quarter of the width, with the parts of the training loss that such files hold as well."""
    config, shapes = published(release)
    config["hidden_size"] //= 4
    source = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn([size // 4 if size >= 128 else size for size in shape], generator=source)
        for name, shape in shapes.items()
    }
    folder = tmp_path / "vae"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({**tensors, "loss.logvar": torch.zeros(())}, folder / WEIGHTS)
    save_published(videogen.load(folder), config, tmp_path / "again")
    again = load_file(tmp_path / "again" / WEIGHTS)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == config


def test_the_class_default_of_v1_0_is_known_too_and_nothing_else() -> None:
    config, _ = published("v1_0")
    assert LAYOUT.knobs(config, ())["pool_early"]
    late = {**config, "encoder_temporal_downsample": ["", "TimeDownsample2x", "TimeDownsample2x", ""]}
    assert not LAYOUT.knobs(late, ())["pool_early"]
    with pytest.raises(ValueError, match=r"encoder_temporal_downsample=.* is not that of v1\.0, \['TimeDown"):
        LAYOUT.knobs({**config, "encoder_temporal_downsample": ["TimeDownsample2x", "", "TimeDownsample2x", ""]}, ())

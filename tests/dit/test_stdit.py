"""STDiT against the original code of Open-Sora 1.0, which was run on its own for these numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dit_goldens import Golden, built, error, load

from videogen.checkpoints import save_original
from videogen.checkpoints.published import families, load_published
from videogen.denoiser import Condition


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("hpc_stdit_v1_0")


@pytest.mark.parametrize("case", ["plain", "still", "unmasked"])
def test_it_equals_the_original(golden: Golden, case: str) -> None:
    assert sorted(golden.cases) == ["plain", "still", "unmasked"]
    _, _, model = built(golden.config, golden.weights)
    given, wanted = golden.cases[case]
    mask = given.get("mask")
    condition = Condition(text=given["y"][:, 0], text_mask=None if mask is None else mask.bool())
    with torch.no_grad():
        assert error(model(given["x"], given["timestep"], condition), wanted) < 1e-5


@pytest.mark.parametrize("scale", [0.5, 2 / 3, 1.0, 1.5])
def test_the_tables_of_a_file_tell_what_places_were_divided_by(golden: Golden, scale: float) -> None:
    angles = (torch.arange(6)[:, None] / scale * 10000 ** (-torch.arange(12) / 12)).double()
    table = torch.cat([angles.sin(), angles.cos()], -1)[None].float()
    knobs = families()["stdit"].knobs(golden.config, {**golden.weights, "pos_embed_temporal": table})
    assert knobs["layers"] == f"[stdit(time_code={scale}), stdit*1]"
    # as they were made for the fixture
    assert knobs["dit"]["position"]["scale"] == 0.5


def test_a_file_alone_is_read_and_written(golden: Golden, tmp_path: Path) -> None:
    file = tmp_path / "OpenSora.pth"
    layout, knobs, model = built(golden.config, golden.weights)
    assert layout is families()["stdit"]
    save_original(model, "stdit", knobs, file)
    written = torch.load(file, weights_only=True)
    # the tables are made anew by those who read it
    assert golden.weights.keys() - written.keys() == {"pos_embed", "pos_embed_temporal"}
    assert all(torch.equal(value, golden.weights[key]) for key, value in written.items())
    # without a config the heads are those of the release, which do not fit so small a model
    torch.save(golden.weights, file)
    with pytest.raises(ValueError, match="24 can't be split over 16 heads"):
        load_published(file)
    (tmp_path / "config.json").write_text('{"num_heads": 2}')
    read = load_published(file).state_dict()
    assert all(torch.equal(read[key], value) for key, value in model.state_dict().items())

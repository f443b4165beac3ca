"""Published checkpoints: recognised, mapped both ways, and refused whole when anything doesn't fit."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import videogen
from videogen.checkpoints import published, read_published, save_published
from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.published import families
from videogen.kinds import registry
from videogen.registry import Registry

WFVAE = Path(__file__).parents[1] / "vae" / "fixtures" / "osp_wfvae_v1_3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published WF-VAE as a user has it."""
    target = tmp_path / "wfvae"
    target.mkdir()
    shutil.copy(WFVAE / "config.json", target / "config.json")
    shutil.copy(WFVAE / "weights.safetensors", target / "diffusion_pytorch_model.safetensors")
    return target


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def shard(folder: Path) -> dict[str, str]:
    """Cut the folder's file in two; the index's map."""
    file = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    file.unlink()
    where = {key: f"part-{index % 2}.safetensors" for index, key in enumerate(sorted(tensors))}
    for name in set(where.values()):
        save_file({key: tensors[key] for key in where if where[key] == name}, folder / name)
    index = {"metadata": {}, "weight_map": where}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return where


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_folder_a_file_shards_and_a_pickle_give_the_same_part(folder: Path) -> None:
    vae = videogen.load(folder)
    assert type(vae).__name__ == "WaveletVAE"
    assert not vae.training
    assert vae.spec.scale == pytest.approx((0.18215,) * 8)
    assert same(videogen.load(folder / "diffusion_pytorch_model.safetensors"), vae)
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    shard(folder)
    assert same(videogen.load(folder), vae)
    torch.save({"state_dict": tensors, "epoch": 3}, folder / "last.ckpt")
    assert same(videogen.load(folder / "last.ckpt"), vae)


def test_saving_gives_the_file_back(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    save_published(videogen.load(folder), config, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == config
    before = load_file(folder / "diffusion_pytorch_model.safetensors")
    after = load_file(tmp_path / "again" / "diffusion_pytorch_model.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert same(videogen.load(tmp_path / "again"), videogen.load(folder))


def test_what_does_not_fit_is_named_key_by_key(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.pop("decoder.conv_in.conv.bias"))
    edit(folder, lambda tensors: tensors.update({"decoder.extra": torch.ones(1)}))
    edit(folder, lambda tensors: tensors.update({"encoder.conv_out.conv.bias": torch.ones(3)}))
    with pytest.raises(LayoutError) as told:
        videogen.load(folder)
    for part in ("missing: decoder.conv_in.conv.bias", "left over: decoder.extra", "conv_out.conv.bias (3,) for (16,)"):
        assert part in str(told.value)
    assert str(told.value).startswith(f"{folder}: ")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: tensors.pop("decoder.conv_in.conv.bias"),
        lambda tensors: tensors.update({"decoder.extra": torch.ones(1)}),
        lambda tensors: tensors.update({"encoder.conv_out.conv.bias": torch.ones(3)}),
        lambda tensors: tensors.update({"decoder.inverse_wavelet_tranform_l1.aa": torch.zeros(1, 1, 2, 2)}),
    ],
    ids=["missing", "left over", "misshapen", "constant"],
)
def test_nothing_is_loaded_into_a_part_that_is_there_already(
    folder: Path, spoil: Callable[[dict[str, Tensor]], Any]
) -> None:
    found = read_published(folder)
    part = registry("vae").build("wavelet", **found.knobs)
    before = {key: value.clone() for key, value in part.state_dict().items()}
    edit(folder, spoil)
    spoilt = read_published(folder)
    with pytest.raises(LayoutError, match=re.escape(str(folder))):
        spoilt.fill(part, "wavelet", found.knobs)
    assert all(torch.equal(value, before[key]) for key, value in part.state_dict().items())
    # and what isn't spoilt does load
    found.fill(part, "wavelet", found.knobs)
    assert not all(torch.equal(value, before[key]) for key, value in part.state_dict().items())


def test_a_config_that_says_too_little_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"_class_name": "WFVAEModel"}')
    with pytest.raises(LayoutError, match=r"says no '\w+', which 'wavelet' is built from"):
        videogen.load(folder)


def test_a_stranger_is_refused_with_what_is_known(folder: Path) -> None:
    edit(folder, lambda tensors: [tensors.pop(key) for key in list(tensors) if "connect_l1" in key])
    (folder / "config.json").write_text('{"_class_name": "SomeOtherVAE"}')
    with pytest.raises(LayoutError, match=r"SomeOtherVAE.*known are: .*wfvae"):
        videogen.load(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-1\.safetensors is missing"):
        videogen.load(folder)


def test_an_index_that_promises_more_than_its_shards_hold_is_refused(folder: Path) -> None:
    where = shard(folder)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {**where, "decoder.more": "part-0.safetensors"}}))
    with pytest.raises(ValueError, match=r"no shard holds: decoder\.more"):
        videogen.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", '{"_class_name": "WFV', "config.json is no JSON"),
        ("config.json", "[1, 2]", "config.json holds list, not names and values"),
        ("model.safetensors.index.json", '{"weight_map": {', "index.json is no JSON"),
        ("model.safetensors.index.json", '{"metadata": {}}', "index.json has no weight_map"),
    ],
)
def test_a_damaged_file_beside_the_tensors_is_named(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        videogen.load(folder)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.safetensors", "model.pt"])
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    if name == "model.pt":
        torch.save(load_file(file), folder / name)
        file.unlink()
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name} .*truncated"):
        videogen.load(folder)


def test_a_pickle_that_holds_more_than_tensors_runs_nothing(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": {"weight": Bomb()}}, folder / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt .*holds more than tensors"):
        videogen.load(folder / "model.pt")
    assert not (tmp_path / "ran").exists()
    torch.save([1, 2, 3], folder / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt holds no state dict"):
        videogen.load(folder / "list.pt")


def test_two_files_are_one_too_many(folder: Path) -> None:
    shutil.copy(folder / "diffusion_pytorch_model.safetensors", folder / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: give the file itself"):
        videogen.load(folder)
    with pytest.raises(FileNotFoundError, match="doesn't exist"):
        videogen.load(folder / "nowhere")


@pytest.mark.parametrize("name", families())
def test_every_family_is_of_a_registered_part(name: str) -> None:
    layout = families()[name]
    assert layout.part in registry(layout.kind).names()


def test_a_layout_that_cannot_be_loaded_is_warned_of_and_the_others_are_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken package of somebody else's, found through its metadata as any installed one is."""
    (tmp_path / "broken_layout.py").write_text("import a_package_that_is_not_there\n")
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[videogen.checkpoints.layouts]\nbroken = broken_layout:layout\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fresh = Registry[Any]("layout", LAYOUTS.home)
    # what is imported already doesn't register again
    fresh._entries.update({name: LAYOUTS.get(name) for name in LAYOUTS.names()})
    monkeypatch.setattr(published, "LAYOUTS", fresh)
    families.cache_clear()
    with pytest.warns(UserWarning, match="layout 'broken' can't be loaded.* needs a_package_that_is_not_there"):
        assert type(videogen.load(folder)).__name__ == "WaveletVAE"
    families.cache_clear()

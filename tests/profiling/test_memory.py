"""Memory: how much there is, and that a model which is larger is refused before anything is allocated."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from allocations import Allocations
from torch import nn

import videogen
from videogen.checkpoints import save_part
from videogen.config import build_parts, build_vae, compose, part_configs
from videogen.profiling.memory import GROUPS, _of_group, available, check_fits, weight_bytes
from videogen.profiling.units import amount, size

# more parameters than any machine holds, in as many layers as the largest published models have
HUGE = ["weights=null", "denoiser.dim=131072", "denoiser.depth=48", "denoiser.num_heads=1024"]


def refused_within_a_second(run: Callable[[], object]) -> str:
    # the first time also imports the parts
    with Allocations() as made, pytest.raises(ValueError, match="of memory are free"):
        run()
    assert made.bytes < 2**20
    before = time.process_time()
    with pytest.raises(ValueError, match="of memory are free") as refused:
        run()
    assert time.process_time() - before <= 1.0
    return str(refused.value)


def test_a_model_larger_than_the_memory_is_refused_by_its_number() -> None:
    config = compose("generate", HUGE)
    said = refused_within_a_second(lambda: build_parts(config))
    assert re.match(r"the weights take ([\d.]+) TiB \(vae 9.0\d MiB, denoiser \1 TiB, text 1.59 MiB\) and ", said)
    assert said.endswith("of memory are free: choose a smaller model, or a machine with more")


def test_so_is_a_vae_alone() -> None:
    config = compose("reconstruct", ["weights=null", "vae.base_channels=1048576"])
    assert "(vae " in refused_within_a_second(lambda: build_vae(config))


def test_so_is_a_checkpoint_of_ours(tmp_path: Path) -> None:
    config = compose("generate", HUGE)
    vae = build_vae(compose("reconstruct", ["weights=null"]))
    told = part_configs(config, {"denoiser": None, "vae": vae, "text": videogen.build("text", "words")})["denoiser"]
    save_part(tmp_path, told, {"weight": torch.zeros(1)})
    assert "(denoiser " in refused_within_a_second(lambda: videogen.load(tmp_path))


def test_so_is_a_file_before_it_is_read(tmp_path: Path) -> None:
    free = available()
    assert free is not None
    count = free // 4 + 2**20
    header = {"weight": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        # a hole, which takes no room
        file.truncate(8 + len(text) + 4 * count)
    assert "(model.safetensors " in refused_within_a_second(lambda: videogen.load(path))


def test_what_parts_refuse_is_said_before_anything_is_allocated() -> None:
    wrong = {
        "dit.modulation=adaln_single dit.time.dim=64": "adaln_single needs dit.time.dim = dim",
        "dit.caption=none": "text of width 128 doesn't fit tokens of width 256",
        "denoiser.num_heads=64": "head_dim 4 has no three even parts",
        "attention=triton denoiser.num_heads=1 denoiser.dim=512": "takes a head_dim up to 256, not 512",
    }
    for overrides, message in wrong.items():
        config = compose("generate", ["weights=null", *overrides.split()])
        with Allocations() as made, pytest.raises(ValueError, match=message):
            build_parts(config)
        assert made.bytes == 0


def test_there_is_as_much_memory_as_the_system_or_the_control_group_leaves(tmp_path: Path) -> None:
    free = available(torch.device("cpu"))
    assert free is not None
    assert 2**26 < free < 2**60
    _, limit, used, droppable = GROUPS[0]
    group = (tmp_path, limit, used, droppable)
    assert _of_group(group) is None
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert _of_group(group) == 500
    (tmp_path / limit).write_text("max\n")
    assert _of_group(group) is None


def test_weights_are_parameters_and_buffers() -> None:
    assert weight_bytes(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))) == 4 * (16 + 8 + 8) + 8
    assert weight_bytes(object()) == 0
    check_fits({"a": 1, "b": 2})
    with pytest.raises(ValueError, match=r"the weights take 4\.5 EiB|the weights take 4608 PiB"):
        check_fits({"a": 2**62, "b": 2**59})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (size(0), "0 B"),
        (size(1023), "1023 B"),
        (size(1024), "1 KiB"),
        (size(1536), "1.5 KiB"),
        (size(2**40), "1 TiB"),
        (size(2**31 + 2**20), "2 GiB"),
        (amount(0), "0"),
        (amount(999), "999"),
        (amount(999_700), "1 M"),
        (amount(14_288_901_184), "14.3 G"),
        (amount(123_456), "123 k"),
    ],
)
def test_units(text: str, wanted: str) -> None:
    assert text == wanted

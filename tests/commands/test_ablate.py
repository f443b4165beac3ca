"""`videogen ablate`: every combination in one table, and those that don't go together listed with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from videogen.cli import main

SMALL = [
    *("weights=null", "vae.base_channels=8", "vae.encoder_flow=8", "vae.num_res_blocks=1", "vae.latent_channels=4"),
    *("vae.latent_shift=[]", "vae.latent_scale=[]", "denoiser.dim=24", "denoiser.depth=1", "denoiser.num_heads=2"),
    *("text.dim=16", "text.depth=1", "num_frames=5", "height=32", "width=32", "rounds=1"),
]
RUN = ["train.steps=2", "train.batch_size=1", "train.num_frames=[5]", "train.sizes=[[32,32]]", "train.log_every=1"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_combination_is_a_row(here: Path, capsys: Capture) -> None:
    arguments = ["ablate", "dit.block=full3d,factorized", "dit.mlp=gelu,swiglu", "output=blocks v1.2", *SMALL]
    assert main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    columns = "dit.block | dit.mlp | parameters (M) | GFLOPs/step | GiB | s/step | CPU s/step | p20 | p80"
    assert printed[0] == f"| {columns} |"
    assert printed[-3:] == ["blocks v1.2.md", "blocks v1.2.json", "blocks v1.2.png"]
    report = json.loads((here / "blocks v1.2.json").read_text())
    rows = {(row["dit.block"], row["dit.mlp"]): row for row in report["rows"]}
    assert set(rows) == {(block, mlp) for block in ("full3d", "factorized") for mlp in ("gelu", "swiglu")}
    assert report["refused"] == {}
    # a gate is half as large again, a second attention of a layer costs more
    for column in ("parameters (M)", "GFLOPs/step"):
        for block in ("full3d", "factorized"):
            assert rows[block, "swiglu"][column] > rows[block, "gelu"][column]
        for mlp in ("gelu", "swiglu"):
            assert rows["factorized", mlp][column] > rows["full3d", mlp][column]
    assert all(row["p20"] > 0 and row["s/step"] > 0 and row["GiB"] > 0 for row in rows.values())
    told = (here / "blocks v1.2.md").read_text()
    assert told.startswith("# `videogen ablate dit.block=full3d,factorized dit.mlp=gelu,swiglu 'output=blocks v1.2'")
    assert "\n".join(printed[:6]) in told
    assert (here / "blocks v1.2.png").read_bytes().startswith(b"\x89PNG")


def test_what_doesnt_go_together_is_listed_and_the_rest_compared(here: Path, capsys: Capture) -> None:
    swept = ["dit.modulation=adaln_zero,adaln_single", "dit.mlp=gelu,swiglu", "dit.time.dim=48"]
    assert main(["ablate", *swept, *SMALL]) == 0
    report = json.loads((here / "ablation.json").read_text())
    assert [(row["dit.modulation"], row["dit.mlp"]) for row in report["rows"]] == [
        ("adaln_zero", "gelu"),
        ("adaln_zero", "swiglu"),
    ]
    reason = "adaln_single needs dit.time.dim = dim = 24, not 48: leave dit.time.dim out"
    combinations = [f"dit.modulation=adaln_single dit.mlp={mlp}" for mlp in ("gelu", "swiglu")]
    assert report["refused"] == dict.fromkeys(combinations, reason)
    assert f"not compared: {combinations[0]}: {reason}\n" in capsys.readouterr().out
    assert f"- `{combinations[0]}`: {reason}\n" in (here / "ablation.md").read_text()


def test_nothing_to_compare_is_an_error(here: Path, capsys: Capture) -> None:
    for arguments, message in {
        ("dit.modulation=adaln_single", "dit.time.dim=48"): "adaln_single needs dit.time.dim = dim = 24, not 48",
        ("dit.block=full3d,fulll3d", "denoiser.dim=25"): "dit.block=fulll3d: dit.block=fulll3d: no dit/block is called",
        ("rounds=1,2",): "rounds= says how all are compared: give one value",
        ("output=no/where",): "output=no/where can't be written: give a name in a folder that exists",
    }.items():
        assert main(["ablate", *SMALL, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_each_is_trained_and_sampled_if_asked(here: Path, capsys: Capture) -> None:
    assert main(["ablate", "dit.mlp=gelu,swiglu", "samples=1", *SMALL, *RUN, "steps=1"]) == 0
    rows = json.loads((here / "ablation.json").read_text())["rows"]
    for row in rows:
        log = here / "runs" / f"ablate_dit.mlp={row['dit.mlp']}" / "metrics.jsonl"
        said = [json.loads(line) for line in log.read_text().splitlines()]
        assert row["loss"] == said[-1]["loss"]
        assert row["s/train step"] == said[-1]["seconds"]
        assert row["adherence"] in (0.0, 1.0)
    assert "not trained" not in capsys.readouterr().out


def test_a_run_that_fails_leaves_the_others(here: Path, capsys: Capture) -> None:
    swept = "train.learning_rate=1e-4,1e30"
    assert main(["ablate", swept, *SMALL, *RUN, "train.steps=4", "train.warmup=0", "train.gradient_clip=1e30"]) == 0
    report = json.loads((here / "ablation.json").read_text())
    assert [("loss" in row) for row in report["rows"]] == [True, False]
    # a number of several is told as Python writes it
    assert "the loss is" in report["refused"]["train.learning_rate=1e+30"]
    assert "not trained or sampled: train.learning_rate=1e+30: the loss is" in capsys.readouterr().out


def test_samples_judge_a_denoiser(here: Path) -> None:
    assert main(["ablate", "samples=1", "train.part=vae", *SMALL, *RUN]) == 0
    assert "train.part=vae trains none" in json.loads((here / "ablation.json").read_text())["refused"]["the model"]

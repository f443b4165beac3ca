"""The same commands on a graphics card: films as on the CPU, every scheduler, tasks, and a training run.

pytest -m gpu tests/test_on_gpu.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import videogen
from videogen.commands.train import train
from videogen.config import build_pipeline, compose
from videogen.metrics.fidelity import psnr
from videogen.schedulers import SCHEDULERS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no card")]

PROMPT = "a red circle moving right"


def film(*overrides: str, **references: torch.Tensor) -> torch.Tensor:
    return build_pipeline(compose("generate", list(overrides)))(PROMPT, seed=0, **references)


@pytest.fixture(scope="module")
def on_cpu() -> torch.Tensor:
    return film("device=cpu")


@pytest.mark.parametrize(
    ("overrides", "least"),
    [
        ((), 40.0),
        (("precision=bfloat16",), 25.0),
        (("precision=float16",), 30.0),
        (("attention=triton",), 40.0),
        (("attention=flex",), 40.0),
        (("attention=triton", "precision=bfloat16"), 25.0),
    ],
)
def test_a_film_is_that_of_the_cpu(on_cpu: torch.Tensor, overrides: tuple[str, ...], least: float) -> None:
    made = film("device=cuda", *overrides)
    assert made.device.type == "cpu"
    assert psnr(on_cpu, made).item() >= least


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_scheduler(name: str) -> None:
    few = [f"scheduler={name}", "steps=6"]
    assert psnr(film("device=cpu", *few), film("device=cuda", *few)).item() >= 35


@pytest.mark.parametrize(
    "task", ["image_to_video", "extend", "loop", "connect", "edit", "inpaint", "outpaint", "interpolate"]
)
def test_every_task(task: str, on_cpu: torch.Tensor) -> None:
    knobs = ["task.box=[0.25,0.25,0.75,0.75]"] if task == "inpaint" else []
    build = videogen.pipeline("model=shapes", f"task={task}", "steps=4", "device=cuda", *knobs)
    given = {"image": on_cpu[0, :, 0], "video": on_cpu, "other": on_cpu.flip(2)}
    needed = {name: given[name] for name in build.task.needs}
    made = build(PROMPT, seed=0, **needed)
    assert made.isfinite().all()
    assert made.shape[2] >= 17


@pytest.mark.parametrize("part", ["denoiser", "vae", "vae_decoder", "text"])
def test_a_training_run(part: str, tmp_path: Path) -> None:
    one = [
        "train.num_frames=[17]",
        "train.num_frames_weights=[1.0]",
        "train.sizes=[[64,64]]",
        "train.sizes_weights=[1.0]",
    ]
    chosen = {
        "denoiser": ["train=shapes_dit", "train.cached_clips=64", "train.workers=2", "train.known=0.5", *one],
        "vae": ["train=shapes_vae", "data=shapes", "train.num_frames=[5]", "train.num_frames_weights=[1.0]"],
        "text": ["train=shapes_text"],
    }
    chosen["vae_decoder"] = [*chosen["vae"], "train.part=vae_decoder"]
    small = ["train.batch_size=4", "train.steps=4", "train.log_every=2", "train.compile=false"]
    small = small if part != "text" else small[:3]
    overrides = ["model=shapes", "weights=shapes", *chosen[part], *small, f"train.output={tmp_path / 'run'}"]
    overrides += ["train.save_every=2"]
    folder = train(compose("train", [*overrides, "device=cuda"]))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2
    assert all(loss == loss for loss in losses)
    # what was trained on a card runs without one, and a run that goes on there does too
    assert film(f"model={folder}", "device=cpu", "steps=2").isfinite().all()
    overrides[overrides.index("train.steps=4")] = "train.steps=6"
    train(compose("train", [*overrides, "device=cuda"]))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3

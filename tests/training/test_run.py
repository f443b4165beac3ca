"""The training loop: it learns, resumes as if never stopped, and survives kill -9 at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import videogen
from videogen.checkpoints import load_weights, newest
from videogen.config import compose
from videogen.config.files import presets
from videogen.registry import Registry
from videogen.training.checks import check_settings
from videogen.training.run import STATE, learning_rate, train
from videogen.training.settings import TrainSettings

VAE = {"name": "wavelet", "base_channels": 8, "latent_channels": 4, "encoder_flow": 8, "use_attention": False}
TEXT = {"name": "words", "dim": 16, "depth": 1, "num_heads": 2, "vocabulary": ["a", "circle", "red"]}


def settings(folder: Path, **changes: object) -> TrainSettings:
    small = TrainSettings(
        part="vae",
        output=str(folder),
        steps=6,
        batch_size=2,
        save_every=2,
        log_every=2,
        warmup=1,
        num_frames=[5, 1],
        num_frames_weights=[0.5, 0.5],
        sizes=[[16, 16], [16, 24]],
        sizes_weights=[0.5, 0.5],
    )
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


def build(config: dict[str, object], kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    knobs = {key: value for key, value in config.items() if key != "name"}
    return videogen.build(kind, str(config["name"]), **knobs)


def run_vae(folder: Path, **changes: object) -> Path:
    parts = SimpleNamespace(vae=build(VAE, "vae"))
    return train(parts, videogen.build("data", "shapes"), settings(folder, **changes), {"vae": VAE})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / STATE) | load_file(folder / "vae" / "model.safetensors")


def test_resume_after_losing_the_last_checkpoints_gives_the_same_weights(tmp_path: Path) -> None:
    whole = tensors(run_vae(tmp_path / "run"))
    last = newest(tmp_path / "run")
    assert last is not None
    for path in sorted(last.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    last.rmdir()
    again = tensors(run_vae(tmp_path / "run"))
    for name, value in whole.items():
        torch.testing.assert_close(again[name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_checkpoint_loads_into_a_new_part_and_refuses_another(tmp_path: Path) -> None:
    folder = run_vae(tmp_path / "run") / "vae"
    config = json.loads((folder / "config.json").read_text())
    assert len(config["latent_scale"]) == 4
    fresh = build(config, "vae")
    load_weights(folder, config, fresh)
    with pytest.raises(ValueError, match=r"base_channels: 8 saved, 16 asked for"):
        load_weights(folder, {**config, "base_channels": 16}, fresh)


def test_latent_statistics_normalise_the_latents(tmp_path: Path) -> None:
    config = json.loads((run_vae(tmp_path / "run") / "vae" / "config.json").read_text())
    vae = build(config, "vae")
    load_weights(newest(tmp_path / "run") / "vae", config, vae)  # type: ignore[operator]
    data = videogen.build("data", "shapes")
    clips = torch.stack([data.clip(index, 5, 16, 24).video for index in range(64)])
    scale, shift = (torch.tensor(v).view(-1, 1, 1, 1) for v in (vae.spec.scale, vae.spec.shift))
    normal = (vae.encode(clips).mode() - shift) * scale
    assert normal.mean().abs() < 0.3
    assert 0.6 < normal.std() < 1.5


def test_denoiser_learns_and_saves_both_parts(tmp_path: Path) -> None:
    vae, text = build(VAE, "vae"), build(TEXT, "text")
    denoiser = videogen.build(
        "denoiser",
        "dit",
        4,
        16,
        dim=32,
        depth=1,
        num_heads=2,
    )
    parts = SimpleNamespace(
        vae=vae, text=text, denoiser=denoiser, objective=videogen.build("scheduler", "rectified_flow")
    )
    chosen = settings(
        tmp_path, part="denoiser", steps=60, batch_size=8, save_every=30, log_every=10, cached_clips=64,
        learning_rate=3e-3, num_frames=[5], num_frames_weights=[1.0], sizes=[[16, 16]], sizes_weights=[1.0],
    )  # fmt: skip
    folder = train(parts, videogen.build("data", "shapes"), chosen, {"denoiser": {"name": "dit"}, "text": TEXT})
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]
    assert (folder / "denoiser" / "model.safetensors").is_file()
    assert (folder / "text" / "model.safetensors").is_file()
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert not any(p.grad is not None for p in vae.parameters())


def test_decoder_only_training_keeps_the_encoder(tmp_path: Path) -> None:
    folder = run_vae(tmp_path / "decoder", part="vae_decoder")
    trained = load_file(folder / STATE)
    start = build(VAE, "vae").state_dict()
    moved = {name for name, value in start.items() if not torch.equal(trained[f"weights.vae.{name}"], value)}
    assert moved
    assert all(name.startswith("decoder.") for name in moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": "vea"}, "choose vae or vae_decoder or text or denoiser"),
        ({"num_frames_weights": [1.0]}, "give as many"),
        ({"precision": "float64"}, "choose float32 or bfloat16"),
        ({"export_precision": "int8"}, "choose float32 or float16"),
        ({"learning_rate": 1e20, "gradient_clip": 1e20}, "the loss is (nan|inf) at step"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_vae(tmp_path / "run", **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"part": "denoiser", "kl_weight": 0.1},
            ["train.kl_weight=0.1 (default 1e-06, heeded by vae and vae_decoder)"],
        ),
        (
            {"part": "denoiser", "reconstruction": "l1", "perceptual": 0.1},
            ["train.reconstruction=l1", "train.perceptual"],
        ),
        ({"part": "text", "discriminator": 1.0}, ["train.discriminator=1.0", "train.sizes=[[16, 16], [16, 24]]"]),
        ({"cached_clips": 8, "text_dropout": 0.5}, ["train.cached_clips=8", "train.text_dropout=0.5 (default 0.1"]),
        ({"part": "vae_decoder", "compile": True}, ["train.compile=True (default False, heeded by denoiser)"]),
    ],
)
def test_what_another_part_heeds_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], named: list[str]
) -> None:
    with pytest.raises(ValueError, match="would ignore") as told:
        run_vae(tmp_path / "run", **changes)
    assert all(name in str(told.value) for name in named)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", presets("train"))
def test_a_preset_sets_nothing_that_its_part_ignores(preset: str) -> None:
    check_settings(TrainSettings(**compose("train", [f"train={preset}"])["train"]))


def test_the_decoder_alone_learns_by_the_preset_of_its_autoencoder() -> None:
    """The weight of the latents' divergence is the preset's: of the decoder's run it decides what is logged alone."""
    check_settings(TrainSettings(**compose("train", ["train=shapes_vae", "train.part=vae_decoder"])["train"]))


def test_learning_rate_warms_up_and_falls_to_a_tenth() -> None:
    chosen = TrainSettings(warmup=10, steps=110)
    rates = [learning_rate(step, chosen, 1.0) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)


SCRIPT = """
import sys
from types import SimpleNamespace
import videogen
from videogen.training.run import train
from videogen.training.settings import TrainSettings
vae = videogen.build("vae", "wavelet", base_channels=8, latent_channels=4, encoder_flow=8, use_attention=False)
chosen = TrainSettings(part="vae", output=sys.argv[1], steps=100000, batch_size=1, save_every=1, log_every=1,
                       num_frames=[1], num_frames_weights=[1.0], sizes=[[16, 16]], sizes_weights=[1.0], threads=1)
train(SimpleNamespace(vae=vae), videogen.build("data", "shapes"), chosen, {"vae": {"name": "wavelet"}})
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_kill_9_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        before = newest(run)
        deadline = time.monotonic() + 60
        # with a checkpoint at every step, most moments are in the middle of writing one
        while newest(run) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.25)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        last = newest(run)
        assert last is not None, errors.decode()
        assert tensors(last)
        assert json.loads((last / "run.json").read_text())["step"] == int(last.name.removeprefix("step_"))
        assert isinstance(videogen.registry("vae"), Registry)
    # the run goes on from there
    again = run_vae(
        run, steps=int(newest(run).name.removeprefix("step_")) + 1, num_frames=[1], num_frames_weights=[1.0]
    )  # type: ignore[union-attr]
    assert tensors(again)

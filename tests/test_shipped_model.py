"""The model that ships: small, quick, the same under every sampler and kernel, and it shows what it is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import videogen
from videogen.config import build_pipeline, compose
from videogen.data.shapes import HELD_OUT
from videogen.data.video import read_video
from videogen.metrics.shapes import adherence
from videogen.schedulers import SCHEDULERS

PACKAGE = Path(videogen.__file__).parent
PROMPT = "a red circle moving right"


def sample(*overrides: str, prompt: str = PROMPT) -> torch.Tensor:
    return build_pipeline(compose("generate", list(overrides)))(prompt, seed=0)


def command(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "videogen.cli", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})


def test_weights_are_small() -> None:
    sizes = {path: path.stat().st_size for path in (PACKAGE / "weights").rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 25_000_000
    assert {path.suffix for path in sizes} <= {".safetensors", ".json", ".yaml"}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_first_film_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    # VmHWM and not ru_maxrss, which a process inherits from the one that started it
    script = (
        "import re, sys; from videogen.cli import main; code = main(sys.argv[1:]);"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024); sys.exit(code)"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, "generate", PROMPT], cwd=tmp_path, capture_output=True, text=True
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    film, sheet, peak = done.stdout.split()
    assert int(peak) <= 2 * 2**30
    # the limit is 30 s on two idle cores; a test may share them with other tests
    assert seconds <= 60
    assert (tmp_path / sheet).stat().st_size > 1000
    video = read_video(tmp_path / film)
    assert tuple(video.frames.shape) == (3, 17, 64, 64)
    assert video.fps == 8
    shown = adherence(video.frames, PROMPT)
    assert shown["all"], shown


@pytest.mark.parametrize(("height", "width", "num_frames"), [(48, 80, 17), (80, 48, 17), (64, 64, 33), (64, 64, 1)])
def test_other_sizes_and_lengths_sample(height: int, width: int, num_frames: int) -> None:
    prompt = PROMPT if num_frames > 1 else "a red circle"
    video = sample(f"height={height}", f"width={width}", f"num_frames={num_frames}", prompt=prompt)
    assert video.shape == (1, 3, num_frames, height, width)
    shown = adherence(video[0], prompt)
    assert shown["colour"], shown


def test_kernels_give_equal_videos() -> None:
    reference = sample("attention=reference", "steps=8")
    torch.testing.assert_close(sample("attention=sdpa", "steps=8"), reference, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_triton_gives_the_same_video_under_its_interpreter(tmp_path: Path) -> None:
    script = (
        "import sys, torch; from videogen.config import build_pipeline, compose;"
        "pipe = build_pipeline(compose('generate', [f'attention={sys.argv[1]}', 'steps=2']));"
        f"torch.save(pipe({PROMPT!r}, seed=0), sys.argv[2])"
    )
    videos = []
    for kernel, environment in (("triton", {"TRITON_INTERPRET": "1"}), ("reference", {})):
        file = tmp_path / f"{kernel}.pt"
        done = subprocess.run(
            [sys.executable, "-c", script, kernel, str(file)],
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr
        videos.append(torch.load(file, weights_only=True))
    torch.testing.assert_close(*videos, rtol=0, atol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a CUDA device triton runs")
def test_triton_is_refused_on_a_cpu_without_its_interpreter(tmp_path: Path) -> None:
    done = command("generate", PROMPT, "attention=triton", folder=tmp_path)
    assert done.returncode == 2
    assert "attention=sdpa" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "scheduler",
    [pytest.param(name, marks=[] if name == "ddim" else [pytest.mark.slow]) for name in SCHEDULERS.names()],
)
def test_the_same_weights_run_under_every_scheduler(scheduler: str) -> None:
    video = sample(f"scheduler={scheduler}", "steps=30")
    shown = adherence(video[0], PROMPT)
    assert shown["colour"], shown
    assert shown["count"], shown


def test_another_block_is_refused_with_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="factorized"):
        build_pipeline(compose("generate", ["dit.block=factorized"]))


def test_equal_seeds_give_equal_videos_alone_or_in_a_batch() -> None:
    pipe = build_pipeline(compose("generate", ["steps=6"]))
    together = pipe([PROMPT, "a large blue square staying still on a gray background"], seed=[0, 1])
    torch.testing.assert_close(together[:1], pipe(PROMPT, seed=0), rtol=0, atol=1e-3)
    assert torch.equal(pipe(PROMPT, seed=0), pipe(PROMPT, seed=0))


def test_a_tenth_of_the_triples_is_held_out() -> None:
    assert len(HELD_OUT) == 12


def test_parts_load_alone() -> None:
    vae = videogen.load(PACKAGE / "weights" / "shapes" / "vae")
    assert vae.spec.latent_channels == 16
    denoiser = videogen.load(PACKAGE / "weights" / "shapes" / "denoiser")
    assert "text" in denoiser.conditions

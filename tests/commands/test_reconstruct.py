"""`videogen reconstruct`: the figures, files and sizes of a stream are those of the whole clip, in flat memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from videogen.cli import main
from videogen.commands.reconstruct import Reconstruction, reconstruct
from videogen.config import build_vae, compose
from videogen.data.excerpt import cover
from videogen.data.sheet import side_by_side
from videogen.data.video import Size, VideoWriter, read_video, write_video
from videogen.metrics.fidelity import psnr, ssim
from videogen.pipelines.reconstruct import reconstruct as reconstruct_whole

WAVELET = ["model=null", "vae.base_channels=4", "vae.encoder_flow=4", "vae.num_res_blocks=1", "vae.latent_channels=4"]
WHOLE = ["model=null", "vae=causal3d", "vae.base_channels=32", "vae.num_res_blocks=1", "vae.latent_channels=4"]
WHOLE += ["vae.channel_multipliers=[1,1,1,1]"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a folder of its own to write to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def film(here: Path) -> Tensor:
    """clip.mp4, 21 frames of 40x28 at 10 a second; what a reader makes of it."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 6, 5, 7, generator=generator) * 2 - 1
    write_video(here / "clip.mp4", torch.nn.functional.interpolate(coarse, (21, 28, 40), mode="trilinear")[0], 10)
    return read_video(here / "clip.mp4").frames


def run(*overrides: str) -> Reconstruction:
    torch.manual_seed(0)
    return reconstruct(compose("reconstruct", list(overrides)))


def truth(video: Tensor, *overrides: str) -> Tensor:
    """The reconstruction of a whole clip by the same random weights."""
    torch.manual_seed(0)
    return reconstruct_whole(build_vae(compose("reconstruct", list(overrides))), video)


def fails(*overrides: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        run(*overrides)
    return str(caught.value)


@pytest.mark.parametrize("chunk", [1, 6, 40])
def test_a_stream_is_the_whole_clip(film: Tensor, chunk: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("input=clip.mp4", f"chunk={chunk}", *WAVELET)
    rebuilt = truth(film, *WAVELET)
    assert found[:3] == (21, Size(28, 40), 10.0)
    # a stream's frames are the whole clip's but for the order of float32 sums
    assert found.psnr == pytest.approx(psnr(film, rebuilt).item(), abs=1e-3)
    assert found.ssim == pytest.approx(ssim(film, rebuilt).item(), abs=1e-4)
    assert capsys.readouterr().out.splitlines() == [
        f"PSNR {found.psnr:.2f} dB, SSIM {found.ssim:.4f}",
        *("clip-reconstructed.mp4", "clip-reconstructed.png"),
    ]
    pair = side_by_side(film, rebuilt)
    written = read_video(found.video)
    assert (written.frames.shape, written.fps) == (pair.shape, 10.0)
    # the whole pair in one go is the same but for a few bytes that are rounded the other way
    write_video("whole.mp4", pair, 10)
    assert (written.frames - read_video("whole.mp4").frames).abs().mean() < 0.01
    with Image.open(found.sheet) as sheet:
        # frames below 128 pixels are enlarged by a whole number, here five times
        assert sheet.size == (2 * 5 * pair.shape[3] + 2, 4 * 5 * 28 + 3 * 2)


@pytest.mark.parametrize(
    ("given", "frames"),
    [
        (["num_frames=1"], slice(0, 1)),
        (["num_frames=18"], slice(0, 18)),
        (["seconds=0.5"], slice(0, 5)),
        (["start=0.3", "seconds=1"], slice(3, 13)),
        (["start=2", "seconds=9"], slice(20, 21)),
    ],
)
def test_a_part_of_the_film_at_another_size(film: Tensor, given: list[str], frames: slice) -> None:
    found = run("input=clip.mp4", "width=19", "height=23", *given, *WAVELET)
    video = cover(film[:, frames], Size(23, 19))
    assert (found.num_frames, found.size) == (video.shape[1], Size(23, 19))
    assert found.psnr == pytest.approx(psnr(video, truth(video, *WAVELET)).item(), abs=1e-3)
    # an odd side gets a copy of its last row or column in the file
    assert read_video(found.video).frames.shape[1:] == (video.shape[1], 24, 2 * 19 + 4)


def test_what_a_model_samples_at_says_nothing_of_a_clip() -> None:
    keys = ("num_frames", "height", "width")
    config = compose("reconstruct", ["model=shapes"])
    assert [config[key] for key in keys] == [None] * 3
    assert [compose("generate", ["model=shapes"])[key] for key in keys] == [17, 64, 64]
    config = compose("reconstruct", ["model=shapes", "num_frames=5", "height=7", "width=9", "seconds=2", "start=1"])
    assert [config[key] for key in (*keys, "seconds", "start")] == [5, 7, 9, 2, 1]


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg"])
def test_an_image_is_a_clip_of_one_frame(here: Path, name: str) -> None:
    ramp = np.linspace(0, 255, 160).astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp, ramp[:130, None], ramp[::-1]), axis=-1)
    Image.fromarray(picture).save(name, **({"quality": 98, "subsampling": 0} if name.endswith("jpg") else {}))
    found = run(f"input={name}", *WAVELET)
    assert (found.num_frames, found.size) == (1, Size(130, 160))
    assert read_video(found.video).frames.shape[1:] == (1, 130, 2 * 160 + 4)
    with Image.open(found.sheet) as sheet:
        pair = np.array(sheet)
    # the sheet is the pair itself, without loss but for the JPEG's own
    assert pair.shape == (130, 2 * 160 + 4, 3)
    assert np.abs(pair[:, :160].astype(int) - picture).max() <= (0 if name.endswith("png") else 6)


def test_a_vae_that_cannot_be_cut_takes_the_clip_whole(
    film: Tensor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run("input=clip.mp4", "num_frames=6", "chunk=2", *WHOLE)
    told = capsys.readouterr().err
    assert told.startswith("videogen: this VAE takes the clip whole, in memory: norm='group' takes")
    assert told.count("\n") == 1
    assert found.psnr == pytest.approx(psnr(film[:, :6], truth(film[:, :6], *WHOLE)).item(), abs=1e-4)
    monkeypatch.setattr("videogen.commands.reconstruct.MAX_PIXELS", 5 * 28 * 40)
    assert "the clip has more than 5600 pixels" in fails("input=clip.mp4", "num_frames=6", "output=x.mp4", *WHOLE)
    assert not Path("x.mp4").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["width=32"], "width=32 without height=: give both, or none"),
        (["height=32"], "height=32 without width=: give both, or none"),
        (["height=0", "width=32"], "height=0 is out of range: at least 1"),
        (["height=10", "width=32"], "frames of 32x10 are out of range: from 11x11"),
        (["height=32", "width=8191"], "frames of 8191x32 are out of range: .*to 8190x16384"),
        (["height=8190", "width=8190"], "16 frames of 8190x8190 are .* pixels and the limit is"),
        (["num_frames=0"], "num_frames=0 is out of range: at least 1"),
        (["num_frames=3", "seconds=1"], "seconds=1.0 and num_frames=3: give one of the two"),
        (["seconds=0"], "seconds=0.0 is out of range: from a frame, 0.1, to 1000000"),
        (["seconds=-inf"], "seconds=-inf is out of range"),
        (["seconds=nan"], "seconds=nan is out of range"),
        (["seconds=0.01"], "seconds=0.01 is out of range"),
        (["start=-1"], "start=-1.0 is out of range: from 0"),
        (["start=nan"], "start=nan is out of range"),
        (["start=1e300"], "start=1e[+]300 is out of range"),
        (["start=2.1"], r"nothing of clip.mp4 is left from frame 21 \(2.1 s\) on: it has 21 frames \(2.1 s\)"),
        (["start=60", "num_frames=2"], r"is left from frame 600 \(60 s\) on: it has 21 frames"),
        (["output=clip.mp4"], "would write clip.mp4 over the clip itself"),
        (["output=no/pair.mp4"], "the folder no doesn't exist"),
        (["output=pair.gif"], "doesn't end in .mp4"),
    ],
)
def test_what_is_refused_and_leaves_nothing_behind(film: Tensor, here: Path, given: list[str], told: str) -> None:
    before = (here / "clip.mp4").read_bytes()
    assert re.search(told, fails("input=clip.mp4", *given, *WAVELET))
    assert [path.name for path in here.iterdir()] == ["clip.mp4"]
    assert (here / "clip.mp4").read_bytes() == before


def test_the_sheet_does_not_take_an_images_place(here: Path) -> None:
    Image.new("RGB", (16, 16)).save("picture.png")
    told = fails("input=picture.png", "output=picture.mp4", *WAVELET)
    assert "would write picture.png over the clip itself" in told


def test_where_nothing_can_be_written_is_said_before_the_clip_is_opened(here: Path) -> None:
    (here / "fake.mp4").write_text("no video")
    assert "the folder no doesn't exist" in fails("input=fake.mp4", "output=no/pair.mp4", *WAVELET)
    assert "fake.mp4 is no video" in fails("input=fake.mp4", *WAVELET)


def test_damage_in_the_middle_leaves_the_older_pair_as_it_was(film: Tensor, here: Path) -> None:
    run("input=clip.mp4", "output=pair.mp4", *WAVELET)
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    torch.manual_seed(0)
    write_video("noise.mp4", torch.rand(3, 40, 28, 40) * 2 - 1, 10)
    data = bytearray(Path("noise.mp4").read_bytes())
    for position in np.random.default_rng(0).integers(len(data) * 3 // 4, len(data), 200):
        data[position] ^= 0x55
    Path("noise.mp4").write_bytes(data)
    told = fails("input=noise.mp4", "output=pair.mp4", "chunk=2", *WAVELET)
    assert re.search(r"noise.mp4 is damaged at frame \d+", told)
    assert {path.name: path.read_bytes() for path in here.iterdir() if path.name != "noise.mp4"} == before


def test_the_command_line_prints_what_came_of_it(film: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", "input=clip.mp4", "seconds=0.5", "width=16", "height=16", *WAVELET]) == 0
    told = capsys.readouterr()
    assert re.fullmatch(r"PSNR \d+\.\d\d dB, SSIM -?\d\.\d{4}", told.out.splitlines()[0])
    # no progress bar where nobody watches
    assert told.err == ""


PEAK = """
import re, sys, torch
torch.set_num_threads(1)
from videogen.cli import main
assert main(sys.argv[1:]) == 0
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_length_of_the_film(here: Path) -> None:
    side, lengths = 160, (64, 256)
    frame: Any = torch.linspace(-1, 1, side).expand(3, 1, side, side)
    # freed memory goes back at once, whatever sizes were asked for before: what is measured is what is in use
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    peaks = []
    for length in lengths:
        with VideoWriter(f"{length}.mp4", 24) as writer:
            for i in range(length):
                writer.write(frame.roll(i, dims=3))
        command = [sys.executable, "-c", PEAK, "reconstruct", f"input={length}.mp4", "chunk=4", *WAVELET]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] <= 1.15 * peaks[0]
    # were just the originals kept, the longer film would take so much more
    kept = (lengths[1] - lengths[0]) * 3 * side * side * 4
    assert peaks[1] - peaks[0] <= kept / 2

"""How well does the VAE keep a real film, at four lengths and sizes?

    python benchmarks/demonstrations.py film.mp4
    python benchmarks/demonstrations.py film.mp4 --clips 3:596x336 24:168x96 --set model=runs/vae/model chunk=8

Each clip is the start of the film through `videogen reconstruct`. Writes `results/demonstrations.json` and `.md`, and a
contact sheet of each clip as a small JPEG, originals left and reconstructions right; the pairs as MP4 go where
`--videos` says, or nowhere.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import harness
from PIL import Image

from videogen.commands.reconstruct import reconstruct
from videogen.config import compose
from videogen.data.video import open_video

SHEET_SIDE = 1200  # most pixels along a side of a contact sheet


class Clip(NamedTuple):
    """How much of the film, in seconds, and at which size."""

    seconds: float
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.seconds:g}s_{self.width}x{self.height}"


CLIPS = (Clip(3, 596, 336), Clip(10, 256, 256), Clip(18, 196, 196), Clip(24, 168, 96))


def clip(text: str) -> Clip:
    """3:596x336 -> three seconds at 596x336."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no clip: write seconds:WIDTHxHEIGHT, like 3:596x336")
    return Clip(float(match[1]), int(match[2]), int(match[3]))


def check_length(film: Path, clips: Sequence[Clip]) -> None:
    """Refuse a film that ends before a clip does, where its header tells; before anything long."""
    longest = max(clip.seconds for clip in clips)
    with open_video(film) as reader:
        if reader.num_frames is not None and reader.num_frames < round(longest * reader.fps):
            raise SystemExit(f"the film lasts {reader.num_frames / reader.fps:.1f} s: {longest:g} s are asked for")


def demonstrate(film: Path, clip: Clip, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """One clip through the command itself; a row of the table. The pair goes to `folder`, the sheet to the results."""
    size = [f"seconds={clip.seconds}", f"width={clip.width}", f"height={clip.height}"]
    start = time.perf_counter()
    config = compose("reconstruct", [f"input={film}", f"output={folder / f'{clip}.mp4'}", *size, *overrides])
    found = reconstruct(config)
    seconds = time.perf_counter() - start
    harness.RESULTS.mkdir(exist_ok=True)
    with Image.open(found.sheet) as sheet:
        sheet.thumbnail((SHEET_SIDE, SHEET_SIDE))
        sheet.convert("RGB").save(harness.RESULTS / f"demonstrations_{clip}.jpg", quality=85)
    return {
        "clip": f"{clip.seconds:g} s",
        "size": f"{found.size.width}x{found.size.height}",
        "frames": found.num_frames,
        "seconds taken": f"{seconds:.1f}",
        "PSNR, dB": f"{found.psnr:.2f}",
        "SSIM": f"{found.ssim:.4f}",
    }


def markdown(report: dict[str, Any]) -> str:
    """The report for reading: the table, how it was made, and the sheets."""
    known = {key: value for key, value in report["facts"].items() if value is not None}
    settings = f" with {' '.join(report['overrides'])}" if report["overrides"] else ""
    return "\n\n".join(
        [
            f"# {report['question']}",
            harness.markdown_table(report["rows"], list(report["rows"][0])),
            f"Each is the start of `{report['film']}`, scaled to cover the size and cropped from the centre, through "
            f"`videogen reconstruct`{settings}; seconds taken are all of it: loading, decoding, the VAE, the figures, "
            "encoding.",
            "Machine: " + ", ".join(f"{key} {value}" for key, value in known.items()),
            *(f"{name}, original left and reconstruction right:\n\n![]({name}.jpg)" for name in report["sheets"]),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    check_length(options.film, options.clips)
    report: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0],
        "film": options.film.name,
        "overrides": options.set,
        "facts": harness.facts("cpu"),
        "rows": [],
        "sheets": [],
    }
    with tempfile.TemporaryDirectory() as temporary:
        for clip in options.clips:
            report["rows"].append(demonstrate(options.film, clip, options.set, options.videos or Path(temporary)))
            report["sheets"].append(f"demonstrations_{clip}")
            # a run that is cut short leaves what it has measured
            harness.write("demonstrations", report, markdown(report))
    print(harness.markdown_table(report["rows"], list(report["rows"][0])))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("film", type=Path, help="a video file, as long as the longest clip")
    parser.add_argument("--clips", nargs="+", type=clip, default=CLIPS, help="seconds:WIDTHxHEIGHT; default: four")
    parser.add_argument("--videos", type=Path, help="folder for the pairs as MP4; without it they are thrown away")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of videogen reconstruct")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

"""What does the shipped model make of each task? A contact sheet for each, by the commands themselves.

    python benchmarks/gallery.py

The films that tasks start from are made by the commands above them, so that all of it comes from sentences alone.
Writes `docs/gallery/*.png` and `docs/gallery.md`, or to another folder (`--output`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videogen.cli import main as videogen
from videogen.data.video import read_video

TILES, COLUMNS = 16, 8  # frames of a sheet, and of a row
SIDE = 160  # pixels up to which the longer side of a frame is enlarged
GAP, LINE, FONT = 6, 18, 13  # pixels between frames, of a line of text, of its letters
GIVEN = (20, 160, 60)  # colour around what was given


class Entry(NamedTuple):
    """One picture.

    Args:
        name: of its file, and of the film.
        said: what there is to see.
        arguments: of `videogen generate`, without `output=`.
        given: which of a number of frames were given.
        box: top, left, bottom and right of a part that is marked, as shares.
    """

    name: str
    said: str
    arguments: tuple[str, ...]
    given: Callable[[int], Sequence[int]] = lambda frames: ()
    box: tuple[float, float, float, float] | None = None


CROSS = "a small yellow cross moving slowly right on a dark blue background"
BACK = "a small yellow cross moving slowly left on a dark blue background"
CIRCLE = "a large red circle moving slowly up on a gray background"

ENTRIES = (
    Entry("text_to_video", "A film of a sentence.", (CROSS,)),
    Entry("wide", "The same sentence at another size.", (CROSS, "height=48", "width=80")),
    Entry("tall", "And at a third one.", (CROSS, "height=80", "width=48")),
    Entry("text_to_image", "A still image.", ("a large red circle on a gray background", "task=text_to_image")),
    Entry(
        "image_to_video",
        "That image, in motion.",
        (CIRCLE, "task=image_to_video", "image=text_to_image.mp4"),
        lambda frames: [0],
    ),
    Entry(
        "extend",
        "The first film goes on.",
        (CROSS, "task=extend", "video=text_to_video.mp4", "task.length=33"),
        lambda frames: range(17),
    ),
    Entry(
        "backward",
        "What was before it.",
        (CROSS, "task=extend", "video=text_to_video.mp4", "task.length=33", "task.direction=backward"),
        lambda frames: range(frames - 17, frames),
    ),
    Entry(
        "minute",
        "A minute of two sentences by turns, sixteen of its 481 frames.",
        (CROSS, "task=extend", "task.length=481", f"task.then=['{BACK}']"),
    ),
    Entry(
        "loop",
        "The first film with a way back, so that its end is its beginning.",
        (CROSS, "task=loop", "video=text_to_video.mp4", f"task.back={BACK}"),
        lambda frames: range(17),
    ),
    Entry(
        "connect",
        "From one film to another.",
        (CROSS, "task=connect", "video=text_to_video.mp4", "other=image_to_video.mp4", f"task.then={CIRCLE}"),
        lambda frames: [*range(17), *range(frames - 17, frames)],
    ),
    Entry(
        "edit",
        "The first film in another colour.",
        (
            CROSS.replace("yellow", "red"),
            *("task=edit", "video=text_to_video.mp4", f"task.of={CROSS}", "task.strength=0.25", "guidance=6"),
        ),
    ),
    Entry(
        "inpaint",
        "Another object in the place of the circle; outside of the box the film stays as it is.",
        (
            "a large green square moving slowly up on a gray background",
            *("task=inpaint", "video=image_to_video.mp4", "task.box=[0.03,0.03,0.97,0.97]"),
        ),
        box=(0.03, 0.03, 0.97, 0.97),
    ),
    Entry(
        "outpaint",
        "More around the first film, which stays as it is within the box.",
        (CROSS, "task=outpaint", "video=text_to_video.mp4"),
        box=(0.125, 0.125, 0.875, 0.875),
    ),
    Entry(
        "interpolate",
        "The first film with a frame between each two of its own, for twice the frame rate.",
        (CROSS, "task=interpolate", "video=text_to_video.mp4", "fps=16"),
        lambda frames: range(0, frames, 2),
    ),
)


def film(entry: Entry, settings: Sequence[str]) -> np.ndarray:
    """Run the command of an entry in the current folder; its frames (T, H, W, 3), bytes.

    Raises:
        SystemExit: the command failed, and has said why.
    """
    if videogen(["generate", *entry.arguments, *settings, f"output={entry.name}.mp4"]):
        raise SystemExit(f"the picture {entry.name} could not be made")
    frames = read_video(f"{entry.name}.mp4").frames
    pixels: np.ndarray = ((frames.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    return pixels


def sheet(entry: Entry, frames: np.ndarray) -> Image.Image:
    """Evenly spaced frames with their numbers, what was given in a coloured border, the sentence above."""
    chosen = np.linspace(0, len(frames) - 1, min(TILES, len(frames))).round().astype(int).tolist()
    factor = max(1, SIDE // max(frames.shape[1:3]))
    height, width = frames.shape[1] * factor, frames.shape[2] * factor
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    size = max(columns * (width + GAP) + GAP, 560), 2 * LINE + rows * (height + LINE + GAP) + GAP
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT)
    draw.text((GAP, GAP), f'{entry.name}: "{entry.arguments[0]}"', "black", font)
    given = set(entry.given(len(frames)))
    for place, number in enumerate(chosen):
        left, top = GAP + place % columns * (width + GAP), 2 * LINE + place // columns * (height + LINE + GAP)
        if number in given:
            draw.rectangle((left - 4, top - 4, left + width + 3, top + height + 3), GIVEN)
        picture.paste(Image.fromarray(frames[number]).resize((width, height), Image.Resampling.NEAREST), (left, top))
        if entry.box is not None:
            edges = [round(share * side) for share, side in zip(entry.box, (height, width) * 2, strict=True)]
            corners = (left + edges[1], top + edges[0], left + edges[3] - 1, top + edges[2] - 1)
            draw.rectangle(corners, outline=GIVEN, width=1)
        said = f"{number}, given" if number in given else f"{number}"
        draw.text((left, top + height + 4), said, GIVEN if number in given else "black", font)
    return picture


def page(settings: Sequence[str]) -> str:
    """docs/gallery.md."""
    parts = [
        "# Gallery",
        "What the model that ships makes of each task ([docs/tasks.md](tasks.md)), by the command above each picture; "
        "all of it by `python benchmarks/gallery.py`. Frames bordered in green were given, and so was what a green box "
        "keeps; the films that a task starts from are those of the pictures above it. The first seed, unselected: what "
        "goes wrong, goes wrong here too.",
    ]
    for entry in ENTRIES:
        command = shlex.join(["videogen", "generate", *entry.arguments, *settings, f"output={entry.name}.mp4"])
        parts += [
            f"## {entry.name}",
            entry.said,
            f"```bash\n{command}\n```",
            f"![{entry.said}](gallery/{entry.name}.png)",
        ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    folder = options.output.resolve()
    (folder / "gallery").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        for entry in ENTRIES:
            picture = sheet(entry, film(entry, options.set))
            # as many colours as a small file has room for
            picture.quantize(128, dither=Image.Dither.NONE).save(
                folder / "gallery" / f"{entry.name}.png", optimize=True
            )
    (folder / "gallery.md").write_text(page(options.set), encoding="utf-8")
    print(os.path.relpath(folder / "gallery.md"))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    docs = Path(__file__).parent.parent / "docs"
    parser.add_argument("--output", type=Path, default=docs, help="folder of gallery.md and of gallery/; default: docs")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of videogen generate")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

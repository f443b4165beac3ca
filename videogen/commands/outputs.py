"""Where the commands write: names made from sentences, and a look at the place before anything long begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from videogen.data.video import check_writable

SLUG_LENGTH = 60


def name_outputs(sentences: Sequence[str], output: str | None, seed: int, label: str = "") -> list[Path]:
    """One path a sentence: several get a number, before the sentence's own words or behind the name given.

    Args:
        sentences: what is generated.
        output: the path given, or None.
        seed: of the noise.
        label: what tells the runs of a sweep apart.
    """
    digits = len(str(len(sentences)))
    numbers = [f"{index:0{digits}d}" for index in range(1, len(sentences) + 1)] if len(sentences) > 1 else [""]
    if output is not None:
        return [labelled(output, f"{label}{number and f'-{number}'}") for number in numbers]
    return [
        Path(f"{number and f'{number}-'}{slug(sentence)}-seed{seed}{label}.mp4")
        for number, sentence in zip(numbers, sentences, strict=True)
    ]


def labelled(output: str, label: str) -> Path:
    """A path with a label behind its stem: film.mp4 -> film_steps=2.mp4.

    Raises:
        ValueError: the path names no file.
    """
    path = Path(output)
    if not path.name:
        raise ValueError(f"output={output!r} names no file: give one, like output={path / 'film.mp4'}")
    return path.with_name(f"{path.stem}{label}{path.suffix}")


def slug(sentence: str) -> str:
    """The words of a sentence as a file name: "A red circle, moving!" -> "a-red-circle-moving"."""
    text = "-".join(re.findall(r"[^\W_]+", sentence.lower().replace("'", ""))) or "video"
    # cut between words where there is a place to
    return text if len(text) <= SLUG_LENGTH else text[: SLUG_LENGTH + 1].rpartition("-")[0] or text[:SLUG_LENGTH]


def check_output(path: Path) -> None:
    """Refuse a path that the video or its contact sheet can't be written to.

    Raises:
        ValueError: no MP4, a folder, or a place that is missing or not writable.
    """
    check_writable(path)
    if path.with_suffix(".png").is_dir():
        raise ValueError(f"{path.with_suffix('.png')} is a folder, the contact sheet goes there: give another output=")

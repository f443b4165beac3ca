"""metadata.jsonl of a folder of clips: read, checked line by line, and chosen from by split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from videogen.data._frames import VideoError

_COUNTS = ("num_frames", "height", "width")


class Entry(NamedTuple):
    """One line: a file inside the folder, its caption, its length and size in pixels, and its split ("" for none)."""

    file_name: str
    text: str
    num_frames: int
    height: int
    width: int
    split: str = ""

    @property
    def num_bytes(self) -> int:
        """Of the decoded clip, three bytes a pixel."""
        return 3 * self.num_frames * self.height * self.width


def read_metadata(folder: Path, split: str = "") -> list[Entry]:
    """The lines of `folder`/metadata.jsonl with this split, all when it is empty.

    Raises:
        VideoError: no such file, a wrong line, a path that leaves the folder, no line of this split, missing clips.
    """
    path = folder / "metadata.jsonl"
    if not folder.is_dir():
        raise VideoError(f"{folder} is not a folder")
    if not path.is_file():
        raise VideoError(f"{folder} holds no metadata.jsonl: write one line a clip, with {', '.join(Entry._fields)}")
    every = list(_entries(path))
    entries = [entry for entry in every if not split or entry.split == split]
    if not entries:
        splits = ", ".join(sorted({entry.split for entry in every} - {""})) or "none"
        of_split = f" are of split {split!r}: splits are {splits}" if split else ": write one line a clip"
        raise VideoError(f"0 of {len(every)} clips in {path}{of_split}")
    missing = [entry.file_name for entry in entries if not (folder / entry.file_name).is_file()]
    if missing:
        raise VideoError(f"{len(missing)} of {len(entries)} clips are missing in {folder}, the first is {missing[0]}")
    return entries


def _entries(path: Path) -> Iterator[Entry]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise VideoError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _entry(json.loads(line))
            except ValueError as error:
                raise VideoError(f"{path}, line {number}: {error}") from error


def _entry(fields: Any) -> Entry:
    """A line as an entry; fields that an entry doesn't have are left aside."""
    if not isinstance(fields, dict):
        raise ValueError(f"{fields!r} is not an object with {', '.join(Entry._fields)}")
    known = {name: fields[name] for name in Entry._fields if name in fields}
    missing = [name for name in Entry._fields if name not in known and name not in Entry._field_defaults]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    for name, value in known.items():
        if name in _COUNTS and (type(value) is not int or value < 1):
            raise ValueError(f"{name} is {value!r}: it must be a whole number above 0")
        if name not in _COUNTS and not isinstance(value, str):
            raise ValueError(f"{name} is {value!r}: it must be text")
    entry = Entry(**known)
    # read as Windows does, where both slashes part and drives are known. symbolic links may lead elsewhere, as those
    # of download caches do; a name may not
    path = PureWindowsPath(entry.file_name)
    if path.anchor or ".." in path.parts:
        raise ValueError(f"file_name {entry.file_name!r} leads out of the folder: give a path inside it")
    return entry

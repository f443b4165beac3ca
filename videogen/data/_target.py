"""Where files are written to: refused early when it can't be, and replaced whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from videogen.data._frames import VideoError, reason


def check_target(path: str | os.PathLike[str], suffix: str) -> None:
    """Refuse a path that a file with this ending can't be written to.

    Raises:
        VideoError: a directory, another ending, or a folder that is missing or not writable.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a directory: add a file name, like {path / f'video{suffix}'}")
        if path.suffix.lower() != suffix:
            raise VideoError(f"{path} doesn't end in {suffix}, the only format written: use {path.with_suffix(suffix)}")
        if not path.parent.exists():
            raise VideoError(f"the folder {path.parent} doesn't exist: create it with mkdir -p {path.parent}")
        # asking for permissions isn't enough: root has all of them on a read-only disk too
        part = part_of(path)
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as error:
        raise VideoError(f"{path} can't be written ({reason(error)}): choose another folder") from error


def part_of(path: Path) -> Path:
    """A name beside `path` that nobody else has: what is written there is renamed when it is whole."""
    return path.with_name(f".videogen-{secrets.token_hex(8)}.part")

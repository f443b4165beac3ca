"""The fastest of a few tiles: measured once for each kernel, shape, card and versions, and kept in a file.

A kernel ships with a tile for each case; this is for those who want the best one for their card. Nothing is decided by
the environment: a part's knob asks for it.
"""

# triton has no types for Python
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from videogen._version import __version__
from videogen.kernels._flash_tiles import Tile

#: where measurements are kept
CACHE = Path.home() / ".cache" / "videogen" / "tiles.json"


def bucket(size: int) -> int:
    """The power of two that stands for a length: lengths of one bucket share a measurement."""
    return 1 << max(0, size - 1).bit_length()


def tuned(
    case: str,
    tiles: Sequence[Tile],
    run: Callable[[Tile], object],
    device: torch.device,
    *,
    cache: Path = CACHE,
    measure: Callable[[Callable[[], object]], float] | None = None,
) -> Tile:
    """The fastest of `tiles` for this case, from the file or measured now; a tile that a card can't hold is left out.

    Args:
        case: the kernel and all of its shape that matters.
        tiles: to choose from; the first is what ships, and is taken where nothing can be measured, as while a CUDA
            graph is recorded.
        run: launches the kernel with a tile.
        device: that it runs on.
        cache: the file.
        measure: milliseconds of a call; None measures on the card.

    Raises:
        ValueError: a file that isn't one of ours, or no card to measure on.
    """
    if device.type != "cuda" and measure is None:
        raise ValueError(f"tiles are measured on a CUDA device, not on {device.type}: leave tune off")
    key = f"{case} | {_card(device)} | {_versions()}"
    # read each time: a measurement of another process counts, and what a step costs is far more than a small file
    found = _read(cache).get(key)
    if found in [list(tile) for tile in tiles]:
        return Tile(*found)
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return tiles[0]
    times = {tile: time for tile in tiles if (time := _time(run, tile, measure or _milliseconds)) is not None}
    if not times:
        raise ValueError(f"none of the tiles for {case} runs on {_card(device)}: leave tune off")
    best = min(times, key=lambda tile: times[tile])
    _write(cache, key, best)
    return best


def _time(run: Callable[[Tile], object], tile: Tile, measure: Callable[[Callable[[], object]], float]) -> float | None:
    from triton.runtime.errors import OutOfResources

    try:
        return measure(lambda: run(tile))
    except OutOfResources:
        return None


def _milliseconds(call: Callable[[], object]) -> float:
    from triton.testing import do_bench

    return float(do_bench(call, warmup=10, rep=40, return_mode="median"))


def _card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _versions() -> str:
    import triton

    return f"videogen {__version__} torch {torch.__version__} triton {triton.__version__}"


def _read(cache: Path) -> dict[str, list[int]]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{cache} is no table of tiles: delete it, and they are measured again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{cache} is no table of tiles: delete it, and they are measured again")
    return found


def _write(cache: Path, key: str, tile: Tile) -> None:
    """Add an entry, so that another process sees the old file or the new one and never half of it."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    table = _read(cache) | {key: list(tile)}
    handle, name = tempfile.mkstemp(dir=cache.parent, prefix=cache.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(table, file, indent=1, sort_keys=True)
        Path(name).replace(cache)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()

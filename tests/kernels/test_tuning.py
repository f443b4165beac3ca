"""Tiles that are measured: once for each case, kept in a file that gives no other tile than those that were offered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime.errors import OutOfResources

from videogen.kernels._block_sparse import KERNELS, shared_bytes, tiles_for
from videogen.kernels._flash_tiles import Tile
from videogen.kernels._triton import SHARED, SMALLEST_SHARED
from videogen.kernels._tuning import bucket, tuned

TILES = [Tile(64, 64, 4, 2), Tile(128, 64, 8, 3), Tile(32, 32, 4, 1)]
CPU = torch.device("cpu")


class Clock:
    """Runs a call and tells a time that goes by its tile; keeps what ran."""

    def __init__(self) -> None:
        self.ran: list[Tile] = []

    def run(self, tile: Tile) -> None:
        self.ran.append(tile)
        if tile.block_m == 64:
            raise OutOfResources(300_000, 200_000, "shared memory")

    def __call__(self, call: Callable[[], object]) -> float:
        call()
        return float(self.ran[-1].block_m)


def test_the_fastest_that_runs_is_measured_once(tmp_path: Path) -> None:
    clock, cache = Clock(), tmp_path / "deep" / "tiles.json"
    best = tuned("case", TILES, clock.run, CPU, cache=cache, measure=clock)
    # the first is too large for the card, the second slower
    assert best == Tile(32, 32, 4, 1)
    assert clock.ran == TILES
    assert tuned("case", TILES, clock.run, CPU, cache=cache, measure=clock) == best
    assert clock.ran == TILES
    tuned("another case", TILES, clock.run, CPU, cache=cache, measure=clock)
    assert clock.ran == 2 * TILES
    (key, other) = json.loads(cache.read_text())
    assert key.startswith("another case | cpu | videogen ")
    assert f"torch {torch.__version__} triton " in other
    assert [path.name for path in cache.parent.iterdir()] == ["tiles.json"]


def test_a_file_can_hold_no_tile_that_was_not_offered(tmp_path: Path) -> None:
    clock, cache = Clock(), tmp_path / "tiles.json"
    tuned("case", TILES, clock.run, CPU, cache=cache, measure=clock)
    table = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: [4096, 4096, 1, 1] for key in table}))
    assert tuned("case", TILES, clock.run, CPU, cache=cache, measure=clock) in TILES
    assert clock.ran == 2 * TILES


@pytest.mark.parametrize("text", ["{", "[1, 2]"])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    cache = tmp_path / "tiles.json"
    cache.write_text(text)
    with pytest.raises(ValueError, match=r"tiles.json is no table of tiles: delete it"):
        tuned("case", TILES, Clock().run, CPU, cache=cache, measure=Clock())


def test_no_card_and_no_tile_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"measured on a CUDA device, not on cpu: leave tune off"):
        tuned("case", TILES, Clock().run, CPU, cache=tmp_path / "tiles.json")
    clock = Clock()
    with pytest.raises(ValueError, match=r"none of the tiles for case runs on cpu"):
        tuned("case", TILES[:1], clock.run, CPU, cache=tmp_path / "tiles.json", measure=clock)


def test_lengths_of_a_bucket_share_a_measurement() -> None:
    assert [bucket(length) for length in (0, 1, 2, 3, 4, 5, 32_760)] == [1, 1, 2, 4, 4, 8, 32_768]


@pytest.mark.parametrize("kernel", KERNELS)
def test_tiles_to_try_fit_the_card_and_the_block(kernel: str) -> None:
    for capability, shared in (*SHARED.items(), (86, SMALLEST_SHARED)):
        for width in (16, 32, 64, 128, 256):
            for itemsize in (2, 4):
                tiles = tiles_for(kernel, capability, width, 64, itemsize, shared)
                assert 1 <= len(tiles) == len(set(tiles)) <= 3
                for tile in tiles:
                    assert 16 <= min(tile[:2]) <= max(tile[:2]) <= 64
                    assert shared_bytes(kernel, tile, width, itemsize) <= shared
    with pytest.raises(ValueError, match=r"fits 4096 bytes .* use attention=sdpa"):
        tiles_for(kernel, 80, 256, 128, 4, 4096)

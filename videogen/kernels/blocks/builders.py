"""Block lists of video patterns on a (T, H, W) grid of tokens, time outermost: tiles, windows, radial, causal, skips.

Each gives a list for all samples and heads, and is remembered, since a model asks for the same one in every layer and
step. `valid` (B, N), for a batch with padding, isn't for here: see `videogen.dit.patterns`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, ParamSpec, cast

import torch
from torch import Tensor

from videogen.kernels.blocks import BlockList, from_classes

Grid = tuple[int, int, int]
Given = ParamSpec("Given")
#: tokens of a block: the tile of queries that a tensor core likes best
SIZE = 128


def _kept(build: Callable[Given, BlockList]) -> Callable[Given, BlockList]:
    """Remember what is built, as a constant to the compiler."""
    found = functools.lru_cache(maxsize=64)(build)

    # what outlives a sampling run may meet a training step, where autograd refuses tensors of inference mode
    @torch.compiler.assume_constant_result
    @functools.wraps(build)
    def ask(*given: Given.args, **settings: Given.kwargs) -> BlockList:
        with torch.inference_mode(False), torch.no_grad():
            return cast("Callable[..., BlockList]", found)(*given, **settings)

    return cast("Callable[Given, BlockList]", ask)


@_kept
def sliding_tile(
    grid: Grid, tile: Grid, reach: Grid, *, size: int = SIZE, device: torch.device | None = None
) -> BlockList:
    """Tokens attend to the tiles around their own: Sliding Tile Attention, https://arxiv.org/abs/2502.04507.

    Args:
        grid: tokens along (t, y, x).
        tile: tokens of a tile; those at the far edges may be smaller.
        reach: tiles to either side that are seen; at an edge the window moves inwards, so that all see as many.
        size: tokens of a block.
        device: of the list.
    """
    own = _places(grid, device).div(torch.tensor(tile, device=device), rounding_mode="floor")
    counts = [-(-length // step) for length, step in zip(grid, tile, strict=True)]
    tiles, far = _places((counts[0], counts[1], counts[2]), device), torch.tensor(reach, device=device)
    last = torch.tensor(counts, device=device) - 1
    # where fewer tiles are than a window has, all of them are seen
    centre = tiles.maximum(far).minimum((last - far).maximum(far))
    seen = ((centre[:, None] - tiles[None]).abs() <= far).all(-1)
    return from_classes(_flat(own, counts)[None], seen[None, None], size)


@_kept
def window(
    grid: Grid, window: Grid, shift: Grid = (0, 0, 0), *, size: int = SIZE, device: torch.device | None = None
) -> BlockList:
    """Tokens attend within boxes of the grid, Swin's (https://arxiv.org/abs/2103.14030) on three axes.

    Args:
        grid: tokens along (t, y, x).
        window: tokens of a box; 0 is the whole axis.
        shift: how far the boxes start before the grid.
        size: tokens of a block.
        device: of the list.
    """
    sides = [box or length for box, length in zip(window, grid, strict=True)]
    starts = torch.tensor([step if box else 0 for step, box in zip(shift, window, strict=True)], device=device)
    own = (_places(grid, device) + starts).div(torch.tensor(sides, device=device), rounding_mode="floor")
    return _alone(_flat(own, [int(most) + 1 for most in own.amax(0)]), size)


@_kept
def frame_causal(grid: Grid, frames: int = 1, *, size: int = SIZE, device: torch.device | None = None) -> BlockList:
    """Tokens attend to those of their own chunk of frames and of all before it.

    Args:
        grid: tokens along (t, y, x).
        frames: of a chunk.
        size: tokens of a block.
        device: of the list.
    """
    own = _places(grid, device)[:, 0].div(frames, rounding_mode="floor")
    chunks = torch.arange(-(-grid[0] // frames), device=device)
    return from_classes(own[None], (chunks[:, None] >= chunks[None])[None, None], size)


@_kept
def skip(
    length: int,
    k: int,
    mode: Literal["single", "group"] = "single",
    *,
    size: int = SIZE,
    device: torch.device | None = None,
) -> BlockList:
    """Every k-th token, or runs of k tokens and one run of every k: Skiparse, https://arxiv.org/abs/2412.00131.

    Args:
        length: of the sequence.
        k: into how many sequences it is split.
        mode: "single" tokens or a "group" of k.
        size: tokens of a block.
        device: of the list.
    """
    places = torch.arange(length, device=device)
    return _alone((places if mode == "single" else places.div(k, rounding_mode="floor")) % k, size)


@_kept
def radial(
    grid: Grid, decay: float = 1.0, sink: int = 1, *, size: int = SIZE, device: torch.device | None = None
) -> BlockList:
    """Radial attention, https://arxiv.org/abs/2506.19852, section 4.2: the band halves with each doubling of distance.

    Frames that are 2 ** n to 2 ** (n + 1) - 1 apart see each other where their tokens' places in a frame differ by less
    than decay * tokens of a frame / 2 ** n; where that is below one, every so many frames see the same place. A block
    attends to a block as soon as any of its tokens would, as the paper's kernel has it, and all to the first frames.

    Args:
        grid: tokens along (t, y, x).
        decay: width of the band of neighbouring frames, as a share of a frame.
        sink: frames from the first that all tokens see.
        size: tokens of a block, which lie in one frame.
        device: of the list.
    """
    frames, area = grid[0], grid[1] * grid[2]
    stripes = -(-area // size)
    frame = torch.arange(frames, device=device).repeat_interleave(stripes)
    start = (torch.arange(stripes, device=device) * size).repeat(frames)
    end = (start + size).clamp(max=area)
    apart = (frame[:, None] - frame[None]).abs()
    # the least difference of places between two stripes
    near = (torch.maximum(start[:, None], start[None]) - torch.minimum(end[:, None], end[None]) + 1).clamp(min=0)
    octave = 2.0 ** apart.clamp(min=1).double().log2().floor()
    width = decay * area / octave
    rare = (apart % (octave / (decay * area)).ceil().long().clamp(min=1)) == 0
    seen = torch.where(width >= 1, near + 1 <= width, rare & (near == 0)) | (frame[None] < sink)
    own = torch.arange(frames * area, device=device)
    own = own.div(area, rounding_mode="floor") * stripes + (own % area).div(size, rounding_mode="floor")
    return from_classes(own[None], seen[None, None], size)


def _alone(classes: Tensor, size: int) -> BlockList:
    """Tokens that attend to their own class."""
    count = int(classes.max()) + 1
    return from_classes(classes[None], torch.eye(count, dtype=torch.bool, device=classes.device)[None, None], size)


def _places(grid: Grid, device: torch.device | None) -> Tensor:
    """(t, y, x) of each token, (N, 3)."""
    return torch.cartesian_prod(*(torch.arange(length, device=device) for length in grid)).view(math.prod(grid), 3)


def _flat(places: Tensor, counts: list[int]) -> Tensor:
    """(N, 3) -> (N,), the index in a grid of `counts`."""
    return (places[:, 0] * counts[1] + places[:, 1]) * counts[2] + places[:, 2]

"""Which tokens attend to which: all, those of a frame, of a position, of a window, every k-th, those before."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from videogen.kernels import Attention, Axes, attend_axes
from videogen.kernels.blocks import BlockList, builders

Grid = tuple[int, int, int]


class Heads(NamedTuple):
    """Queries, keys and values of a sequence, each (B, N, heads, head_dim)."""

    q: Tensor
    k: Tensor
    v: Tensor


class Groups(NamedTuple):
    """Queries, keys and values of the tokens of a grid in groups, (B * groups, M, heads, head_dim).

    Args:
        mask: (B * groups, M), or (B, 1, N, N) of one group, False for keys that aren't attended to; None is all.
        order: in which the tokens were taken, (B, N).
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    order: Tensor | None


class Pattern:
    """All tokens attend to all: the base of the other patterns, which override `split` and `join`, or `mask`.

    One whose groups lie on axes of the grid overrides `axes` too, and is then attended to without being moved.
    """

    #: whether `mask` says anything
    masks: ClassVar[bool] = False

    def attend(
        self,
        kernel: Attention,
        q: Shaped[Tensor, "b n heads head_dim"],
        k: Shaped[Tensor, "b n heads head_dim"],
        v: Shaped[Tensor, "b n heads head_dim"],
        grid: Grid,
        valid: Bool[Tensor, "b n"] | None,
    ) -> Shaped[Tensor, "b n heads head_dim"]:
        """Attention of tokens on a (T, H, W) grid, N = T * H * W; nobody attends to a token that isn't valid."""
        axes = self.axes(grid) if valid is None else None
        if axes is not None:
            return attend_axes(kernel, q, k, v, axes)
        blocks = self.blocks(grid, q.device) if valid is None and kernel.support.blocks else None
        if blocks is not None:
            return kernel(*(x.transpose(1, 2) for x in (q, k, v)), blocks=blocks).transpose(1, 2)  # type: ignore[call-arg]
        q, k, v, mask, order = self.group(Heads(q, k, v), grid, valid)
        out = kernel(*(x.transpose(1, 2) for x in (q, k, v)), mask=mask)
        return self.ungroup(out.transpose(1, 2), grid, order)

    def axes(self, grid: Grid) -> Axes | None:
        """The groups of unpadded tokens as axes of the sequence; None where `split` or `mask` alone tells them."""
        return None

    def blocks(self, grid: Grid, device: torch.device) -> BlockList | None:
        """Who attends to whom among unpadded tokens as a list of blocks, for kernels that take one; None without."""
        return None

    def group(self, tokens: Heads, grid: Grid, valid: Bool[Tensor, "b n"] | None) -> Groups:
        """The tokens of a grid in the groups that attend to themselves, and who may attend to whom in there."""
        order = None if valid is None else self.order(valid, grid)
        if valid is not None and order is not None:
            # groups are counted from a clip's own first token, wherever its padding is
            tokens, valid = Heads(*(_taken(x, order) for x in tokens)), _taken(valid, order)
        mask = self._mask(valid, grid, tokens.q)
        q, k, v = (self.split(x, grid) for x in tokens)
        return Groups(q, k, v, mask, order)

    def ungroup(
        self, out: Shaped[Tensor, "bg m *rest"], grid: Grid, order: Int[Tensor, "b n"] | None
    ) -> Shaped[Tensor, "b n *rest"]:
        """The inverse of `group` for what came of one of its tensors."""
        whole = self.join(out, grid)
        return whole if order is None else _taken(whole, order.argsort(1))

    def split(self, x: Shaped[Tensor, "b n *rest"], grid: Grid) -> Shaped[Tensor, "bg m *rest"]:
        """(B, N, …) -> (B * groups, M, …); groups may be filled up with zeros, which `join` drops."""
        return x

    def join(self, x: Shaped[Tensor, "bg m *rest"], grid: Grid) -> Shaped[Tensor, "b n *rest"]:
        """The inverse of `split`."""
        return x

    def fills(self, grid: Grid) -> bool:
        """Whether `split` fills groups up."""
        return False

    def order(self, valid: Bool[Tensor, "b n"], grid: Grid) -> Int[Tensor, "b n"] | None:
        """The order in which the tokens of a padded batch are to be split; None is as they stand."""
        return None

    def mask(self, places: Int[Tensor, "b n 3"], sizes: Int[Tensor, "b 3"]) -> Bool[Tensor, "b n n"] | None:
        """Who may attend to whom, beyond the groups: rows are queries.

        Args:
            places: (t, y, x) of each token, from the first token of its clip.
            sizes: of each clip, without its padding.
        """
        return None

    def _mask(self, valid: Tensor | None, grid: Grid, like: Tensor) -> Tensor | None:
        pairs = self.mask(*_places(valid, grid, like.device)) if self.masks else None
        if pairs is not None:
            pairs = pairs.expand(len(like), -1, -1)[:, None]
            return pairs if valid is None else pairs & valid[:, None, None, :]
        if valid is None and self.fills(grid):
            valid = like.new_ones(like.shape[:2], dtype=torch.bool)
        return None if valid is None else self.split(valid, grid)


class Full(Pattern):
    """Every token attends to every other."""

    def axes(self, grid: Grid) -> Axes:
        """All tokens on one axis."""
        return Axes.of(_volume(grid))


class Spatial(Pattern):
    """Tokens attend within their frame."""

    def axes(self, grid: Grid) -> Axes:
        """Frames of tokens."""
        return Axes.of(grid[0], grid[1] * grid[2], groups=(0,))

    def split(self, x: Shaped[Tensor, "b n *rest"], grid: Grid) -> Shaped[Tensor, "bg m *rest"]:
        """(B, T * S, …) -> (B * T, S, …)."""
        return rearrange(x, "b (t s) ... -> (b t) s ...", t=grid[0])

    def join(self, x: Shaped[Tensor, "bg m *rest"], grid: Grid) -> Shaped[Tensor, "b n *rest"]:
        """The inverse of `split`."""
        return rearrange(x, "(b t) s ... -> b (t s) ...", t=grid[0])


class Temporal(Pattern):
    """Tokens attend along time, to those of their own row and column."""

    def axes(self, grid: Grid) -> Axes:
        """Tokens in steps of a frame."""
        return Axes.of(grid[0], grid[1] * grid[2], groups=(1,))

    def split(self, x: Shaped[Tensor, "b n *rest"], grid: Grid) -> Shaped[Tensor, "bg m *rest"]:
        """(B, T * S, …) -> (B * S, T, …)."""
        return rearrange(x, "b (t s) ... -> (b s) t ...", t=grid[0])

    def join(self, x: Shaped[Tensor, "bg m *rest"], grid: Grid) -> Shaped[Tensor, "b n *rest"]:
        """The inverse of `split`."""
        return rearrange(x, "(b s) t ... -> b (t s) ...", s=grid[1] * grid[2])


class _Skip(Pattern):
    """Over the sequence of a clip's own tokens, or of all tokens of the grid, filled up to a multiple.

    Args:
        k: into how many sequences it is split.
        multiple: what it is filled up to a multiple of.
        over_padding: count the padding of a clip too, wherever it is.
    """

    def __init__(self, k: int, multiple: int, over_padding: bool = False) -> None:
        self.k, self.multiple, self.over_padding = k, multiple, over_padding

    def fills(self, grid: Grid) -> bool:
        """Whether N is no multiple."""
        return _volume(grid) % self.multiple != 0

    def order(self, valid: Bool[Tensor, "b n"], grid: Grid) -> Int[Tensor, "b n"] | None:
        """Tokens first, then padding."""
        return None if self.over_padding else torch.argsort((~valid).int(), dim=1, stable=True)


class SkipSingle(_Skip):
    """Every k-th token of the sequence attends to its like: Skiparse's single skip, arXiv 2412.00131.

    Args:
        k: the sequence is split into so many.
        multiple: it is filled up to a multiple of k * multiple first.
        over_padding: count the padding of a clip too.
    """

    def __init__(self, k: int, multiple: int = 1, over_padding: bool = False) -> None:
        super().__init__(k, k * multiple, over_padding)

    def axes(self, grid: Grid) -> Axes | None:
        """Tokens in steps of k, where nothing is filled up."""
        return None if self.fills(grid) else Axes.of(_volume(grid) // self.k, self.k, groups=(1,))

    def blocks(self, grid: Grid, device: torch.device) -> BlockList:
        """Every k-th token."""
        return builders.skip(_volume(grid), self.k, "single", device=device)

    def split(self, x: Shaped[Tensor, "b n *rest"], grid: Grid) -> Shaped[Tensor, "bg m *rest"]:
        """(B, N, …) -> (B * k, N / k, …)."""
        return rearrange(_filled(x, self.multiple), "b (m k) ... -> (b k) m ...", k=self.k)

    def join(self, x: Shaped[Tensor, "bg m *rest"], grid: Grid) -> Shaped[Tensor, "b n *rest"]:
        """The inverse of `split`."""
        return rearrange(x, "(b k) m ... -> b (m k) ...", k=self.k)[:, : _volume(grid)]


class SkipGroup(_Skip):
    """Runs of k tokens, one run of every k, attend to each other: Skiparse's group skip, arXiv 2412.00131.

    Args:
        k: length of a run, and how many sequences come of it.
        over_padding: count the padding of a clip too.
    """

    def __init__(self, k: int, over_padding: bool = False) -> None:
        super().__init__(k, k * k, over_padding)

    def axes(self, grid: Grid) -> Axes | None:
        """Tokens in runs of k, the runs in steps of k, where nothing is filled up."""
        return None if self.fills(grid) else Axes.of(_volume(grid) // self.k**2, self.k, self.k, groups=(1,))

    def blocks(self, grid: Grid, device: torch.device) -> BlockList:
        """Runs of k tokens, one of every k runs."""
        return builders.skip(_volume(grid), self.k, "group", device=device)

    def split(self, x: Shaped[Tensor, "b n *rest"], grid: Grid) -> Shaped[Tensor, "bg m *rest"]:
        """(B, N, …) -> (B * k, N / k, …)."""
        return rearrange(_filled(x, self.multiple), "b (n k run) ... -> (b k) (n run) ...", k=self.k, run=self.k)

    def join(self, x: Shaped[Tensor, "bg m *rest"], grid: Grid) -> Shaped[Tensor, "b n *rest"]:
        """The inverse of `split`."""
        whole = rearrange(x, "(b k) (n run) ... -> b (n k run) ...", k=self.k, run=self.k)
        return whole[:, : _volume(grid)]


class Window(Pattern):
    """Tokens attend within boxes of the grid; shifted, the boxes at the edges are smaller.

    Swin's windows (https://arxiv.org/abs/2103.14030) on three axes. Shifted boxes are cut off at the edges instead of
    joined across them under a mask, which is the same.

    Args:
        size: of a box along (t, y, x); 0 is the whole axis.
        shift: how far the boxes start before the grid, less than their size.
    """

    def __init__(self, size: Grid, shift: Grid = (0, 0, 0)) -> None:
        self.size, self.shift = size, shift

    def axes(self, grid: Grid) -> Axes | None:
        """Boxes and their tokens along each axis of the grid, where no box stands over."""
        if self.fills(grid):
            return None
        pairs = [(length // size, size) for length, (size, _, _) in zip(grid, self._boxes(grid), strict=True)]
        return Axes.of(*(count for pair in pairs for count in pair), groups=(0, 2, 4))

    def blocks(self, grid: Grid, device: torch.device) -> BlockList:
        """The boxes, cut off at the edges."""
        return builders.window(grid, self.size, self.shift, device=device)

    def order(self, valid: Bool[Tensor, "b n"], grid: Grid) -> Int[Tensor, "b n"]:
        """Each clip rolled to the corner of its grid."""
        return torch.argsort(from_first(valid, grid), dim=1)

    def fills(self, grid: Grid) -> bool:
        """Whether boxes stand over."""
        return any(front or back for _, front, back in self._boxes(grid))

    def split(self, x: Shaped[Tensor, "b n *rest"], grid: Grid) -> Shaped[Tensor, "bg m *rest"]:
        """(B, N, …) -> (B * boxes, tokens of a box, …)."""
        (t, before_t, after_t), (h, before_h, after_h), (w, before_w, after_w) = self._boxes(grid)
        x = rearrange(x, "b (t h w) ... -> b t h w ...", t=grid[0], h=grid[1], w=grid[2])
        rest = [0, 0] * (x.ndim - 4)
        x = F.pad(x, [*rest, before_w, after_w, before_h, after_h, before_t, after_t])
        return rearrange(x, "b (nt t) (nh h) (nw w) ... -> (b nt nh nw) (t h w) ...", t=t, h=h, w=w)

    def join(self, x: Shaped[Tensor, "bg m *rest"], grid: Grid) -> Shaped[Tensor, "b n *rest"]:
        """The inverse of `split`."""
        boxes = self._boxes(grid)
        counts = [(length + front + back) // size for length, (size, front, back) in zip(grid, boxes, strict=True)]
        sizes = dict(zip(("nt", "nh", "nw", "t", "h", "w"), [*counts, *(size for size, _, _ in boxes)], strict=True))
        whole = rearrange(x, "(b nt nh nw) (t h w) ... -> b (nt t) (nh h) (nw w) ...", **sizes)
        for axis, (length, (_, front, _)) in enumerate(zip(grid, boxes, strict=True), start=1):
            whole = whole.narrow(axis, front, length)
        return whole.flatten(1, 3)

    def _boxes(self, grid: Grid) -> list[tuple[int, int, int]]:
        """Size of a box, and what is filled in before and behind, an axis."""
        found = []
        for length, size, shift in zip(grid, self.size, self.shift, strict=True):
            # a window larger than the grid is shifted all the same: a padded clip must find itself in the same boxes
            found.append((size, shift, -(length + shift) % size) if size else (length, 0, 0))
        return found


class FrameCausal(Pattern):
    """Tokens attend to those of their own chunk of frames and of all before it: what autoregressive models need.

    Args:
        frames: of a chunk.
    """

    masks = True

    def __init__(self, frames: int = 1) -> None:
        self.frames = frames

    def mask(self, places: Int[Tensor, "b n 3"], sizes: Int[Tensor, "b 3"]) -> Bool[Tensor, "b n n"]:
        """True where the key's chunk is not behind the query's."""
        chunk = places[..., 0].div(self.frames, rounding_mode="floor")
        return chunk[:, :, None] >= chunk[:, None, :]

    def blocks(self, grid: Grid, device: torch.device) -> BlockList:
        """Chunks of frames and all before them."""
        return builders.frame_causal(grid, self.frames, device=device)


class SlidingTile(Pattern):
    """Tokens attend to the tiles around their own: Sliding Tile Attention, https://arxiv.org/abs/2502.04507.

    Args:
        tile: tokens of a tile along (t, y, x).
        reach: tiles to either side that are seen; at an edge the window moves inwards, so that all see as many.
    """

    masks = True

    def __init__(self, tile: Grid, reach: Grid) -> None:
        self.tile, self.reach = tile, reach

    def mask(self, places: Int[Tensor, "b n 3"], sizes: Int[Tensor, "b 3"]) -> Bool[Tensor, "b n n"]:
        """True where the key's tile lies in the window of the query's."""
        tile, reach = (torch.tensor(value, device=places.device) for value in (self.tile, self.reach))
        own = places.div(tile, rounding_mode="floor")
        last = sizes.sub(1).div(tile, rounding_mode="floor")[:, None]
        # where fewer tiles are than a window has, all of them are seen
        centre = own.maximum(reach).minimum((last - reach).maximum(reach))
        return ((centre[:, :, None] - own[:, None, :]).abs() <= reach).all(-1)

    def blocks(self, grid: Grid, device: torch.device) -> BlockList:
        """Tiles and the tiles around them."""
        return builders.sliding_tile(grid, self.tile, self.reach, device=device)


def from_first(valid: Bool[Tensor, "b n"], grid: Grid) -> Int[Tensor, "b n"]:
    """The index that each token has when its clip is rolled to the corner of the grid."""
    places, _ = _places(valid, grid, valid.device)
    t, y, x = (places % torch.tensor(grid, device=valid.device)).unbind(-1)
    return (t * grid[1] + y) * grid[2] + x


def _places(valid: Tensor | None, grid: Grid, device: torch.device) -> tuple[Tensor, Tensor]:
    """(t, y, x) of each token from the first valid one of its clip (B, N, 3), and the sizes of the clips (B, 3)."""
    places = torch.cartesian_prod(*(torch.arange(length, device=device) for length in grid))[None]
    if valid is None:
        return places, torch.tensor([grid], device=device)
    beyond = torch.tensor(grid, device=device)
    first = torch.where(valid[..., None], places, beyond).amin(1)
    last = torch.where(valid[..., None], places, -1).amax(1)
    return places - first[:, None], last - first + 1


def _taken(x: Tensor, order: Tensor) -> Tensor:
    """The tokens of each sample in that order."""
    return x.gather(1, order.view(*order.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:]))


def _volume(grid: Grid) -> int:
    return grid[0] * grid[1] * grid[2]


def _filled(x: Tensor, multiple: int) -> Tensor:
    missing = -x.shape[1] % multiple
    return F.pad(x, [*[0, 0] * (x.ndim - 2), 0, missing]) if missing else x

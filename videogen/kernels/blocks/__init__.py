"""Lists of blocks for sparse attention: which runs of tokens attend to which, whatever order the tokens lie in.

A pattern such as sliding tiles says which classes of tokens see which (`builders`). Each class is cut into blocks of at
most `size` tokens, so that a block never holds two classes: what the list says is exact, with no mask inside a block,
and tokens stay where they are, since a block names its tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class BlockList(NamedTuple):
    """Which blocks of queries attend to which blocks of keys, in rows (CSR) and in columns.

    Args:
        tokens: (1 or B, blocks, size) int32, the tokens of each block from its front, -1 behind them.
        first: (1 or B, 1 or heads, blocks + 1) int32: where the list of each block of queries begins in `keys`.
        keys: int32, the blocks of keys that they attend to, one list behind the other.
        first_back: the same for each block of keys, in `queries`.
        queries: int32, the blocks of queries that attend to them.
        length: N, the number of tokens.
        complete: every token is in a block, and so gets an output; others get zeros.
    """

    tokens: Int[Tensor, "b blocks size"]
    first: Int[Tensor, "b heads starts"]
    keys: Int[Tensor, " pairs"]
    first_back: Int[Tensor, "b heads starts"]
    queries: Int[Tensor, " pairs"]
    length: int
    complete: bool

    @property
    def size(self) -> int:
        """Tokens of a block, at most."""
        return self.tokens.shape[2]

    @property
    def density(self) -> float:
        """Pairs of blocks in the lists, as a share of all pairs of blocks."""
        lists, blocks = self.first[..., 0].numel(), self.tokens.shape[1]
        return len(self.keys) / max(1, lists * blocks**2)

    def mask(self) -> Bool[Tensor, "b heads n n"]:
        """The same as a mask, (1 or B, 1 or heads, N, N), True = attend: as large as that sounds."""
        (samples, blocks, size), heads = self.tokens.shape, self.first.shape[1]
        samples = max(samples, self.first.shape[0])
        lists = self.first.expand(samples, -1, -1)
        within = torch.arange(len(self.keys), device=self.keys.device)
        pairs = self.keys.new_zeros((samples, heads, blocks, blocks), dtype=torch.bool)
        for b in range(samples):
            for h in range(heads):
                chosen = within[int(lists[b, h, 0]) : int(lists[b, h, -1])]
                rows = torch.searchsorted(lists[b, h].long(), chosen, right=True) - 1
                pairs[b, h, rows, self.keys[chosen].long()] = True
        # a token in no block has a block of its own, which is in no list
        owner = self.tokens.new_full((samples, self.length + 1), blocks, dtype=torch.long)
        numbers = torch.arange(blocks, device=owner.device)[:, None].expand(-1, size).reshape(1, -1)
        held = self.tokens.expand(samples, -1, -1).flatten(1).long()
        owner.scatter_(1, held.where(held >= 0, self.length), numbers.expand(samples, -1))
        owner = owner[:, : self.length]
        wide = torch.nn.functional.pad(pairs, (0, 1, 0, 1))
        sample = torch.arange(samples, device=owner.device)[:, None, None, None]
        head = torch.arange(heads, device=owner.device)[None, :, None, None]
        return wide[sample, head, owner[:, None, :, None], owner[:, None, None, :]]


def from_pairs(tokens: Int[Tensor, "b blocks size"], pairs: Bool[Tensor, "b heads blocks blocks"], n: int) -> BlockList:
    """The lists of a mask of blocks; empty blocks are in no list.

    Args:
        tokens: as in `BlockList`.
        pairs: (1 or B, 1 or heads, blocks, blocks), True where a block of queries attends to a block of keys.
        n: number of tokens.
    """
    filled = (tokens[..., 0] >= 0)[:, None]
    pairs = pairs & filled[..., :, None] & filled[..., None, :]
    first, keys = _rows(pairs)
    first_back, queries = _rows(pairs.transpose(-1, -2))
    held = (tokens >= 0).flatten(1).sum(1)
    return BlockList(tokens.int(), first, keys, first_back, queries, n, bool((held == n).all()))


def from_classes(
    classes: Int[Tensor, "b n"], related: Bool[Tensor, "b heads classes classes"], size: int = 128
) -> BlockList:
    """Blocks of tokens of one class each, and the lists that say which classes attend to which.

    Args:
        classes: (1 or B, N), of each token, counted from 0; -1 for one in no block, such as padding.
        related: (1 or B, 1 or heads, classes, classes), True where queries of a class attend to keys of another.
        size: tokens of a block, at most; a power of two from 16.

    Raises:
        ValueError: a size that isn't one.
    """
    if size < 16 or size & (size - 1):
        raise ValueError(f"size={size} of a block is not a power of two from 16: try 64 or 128")
    samples, n = classes.shape
    count = related.shape[-1]
    # padding is the last class, whose blocks are cut off
    held = classes.where(classes >= 0, count)
    order = torch.argsort(held, dim=1, stable=True)
    sizes = torch.zeros(samples, count + 1, dtype=torch.long, device=classes.device)
    sizes.scatter_add_(1, held, torch.ones_like(held))
    cut = sizes[:, :count].add(size - 1).div(size, rounding_mode="floor")
    before = torch.nn.functional.pad(cut.cumsum(1), (1, 0))
    blocks = max(1, int(before[:, -1].max()))
    # where each token of the sorted sequence goes: its class's first block, and on by its rank in there
    ordered = held.gather(1, order)
    rank = torch.arange(n, device=held.device) - torch.nn.functional.pad(sizes.cumsum(1), (1, 0)).gather(1, ordered)
    place = before.gather(1, ordered) * size + rank
    place = place.where(ordered < count, blocks * size)
    tokens = torch.full((samples, blocks * size + 1), -1, dtype=torch.long, device=held.device)
    tokens.scatter_(1, place, order)
    # filler behind the last class takes the relations of some class: it is in no list
    numbers = torch.arange(blocks, device=held.device).expand(samples, -1).contiguous()
    owner = torch.searchsorted(before[:, 1:].contiguous(), numbers, right=True).clamp(max=count - 1)
    samples = max(samples, related.shape[0])
    whole, owner = related.expand(samples, -1, -1, -1), owner.expand(samples, -1)
    sample = torch.arange(samples, device=held.device)[:, None, None, None]
    head = torch.arange(whole.shape[1], device=held.device)[None, :, None, None]
    pairs = whole[sample, head, owner[:, None, :, None], owner[:, None, None, :]]
    return from_pairs(tokens[:, :-1].unflatten(1, (blocks, size)), pairs, n)


def _rows(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """(b, heads, rows, columns) -> where each row's list begins, (b, heads, rows + 1), and the columns of all lists."""
    counts = pairs.sum(-1).flatten()
    ends = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    samples, heads, rows, _ = pairs.shape
    starts = torch.arange(samples * heads, device=pairs.device)[:, None] * rows
    first = ends[starts + torch.arange(rows + 1, device=pairs.device)]
    return first.view(samples, heads, rows + 1).int(), pairs.nonzero()[:, -1].int()

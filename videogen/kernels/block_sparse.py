"""Attention by a list of blocks in one Triton kernel, forward and backward: what isn't in the list isn't computed."""

from __future__ import annotations

import torch
from torch import Tensor

from videogen.kernels import ATTENTION, Support
from videogen.kernels._block_sparse import block_sparse_attention
from videogen.kernels._shared import check
from videogen.kernels._triton import INTERPRETED
from videogen.kernels.blocks import BlockList


@ATTENTION.register("block_sparse")
class BlockSparseAttention:
    """Attention that walks over lists of blocks of tokens, where a pattern has such a list; elsewhere a dense kernel.

    FlashAttention-2's tiles (https://arxiv.org/abs/2307.08691) over the lists of `videogen.kernels.blocks`, as sliding
    tiles (https://arxiv.org/abs/2502.04507) and radial attention (https://arxiv.org/abs/2506.19852) need them. Tokens
    are read where they lie, with no permutation before and after.

    Args:
        dense: the kernel for calls without a list, such as those of text.
        tune: measure on the card which tile is the fastest for a shape, once, and keep it in ~/.cache/videogen.
    """

    support = Support(
        # products of float64 are there for gradcheck, which needs them
        dtypes=frozenset({"float16", "bfloat16", "float32", *(["float64"] if INTERPRETED else [])}),
        devices=frozenset({"cpu", "cuda"}) if INTERPRETED else frozenset({"cuda"}),
        max_head_dim=256,
        mask=True,
        backward=True,
        blocks=True,
    )

    def __init__(self, *, dense: str = "sdpa", tune: bool = False) -> None:
        if dense == "block_sparse":
            raise ValueError("dense=block_sparse is this kernel itself: choose sdpa, or another kernel")
        self.dense, self.tune = ATTENTION.build(dense), tune

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, blocks: BlockList | None = None
    ) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim); N = L with a list.

        Args:
            mask: as for any attention, without a list.
            blocks: which blocks of the N tokens attend to which; a token that attends to nothing gets zeros.

        Raises:
            ValueError: both, a list for other sequences, or inputs that the kernel doesn't take.
        """
        if blocks is None:
            q, k, v, mask = check("block_sparse", self.support, q, k, v, mask)
            return self.dense(q, k, v, mask=mask)
        if mask is not None:
            raise ValueError(
                "a mask and a list of blocks are given: leave one out, a list can say that tokens are padding"
            )
        return self.attend(q, k, v, blocks)[0]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, blocks: BlockList) -> tuple[Tensor, Tensor]:
        """Output (B, heads, N, head_dim) and log-sum-exp, float32 (B, heads, N), -inf where nothing is attended to."""
        _check_blocks(q, k, blocks)
        q, k, v, _ = check("block_sparse", self.support, q, k, v, None)
        # of a padded head_dim the kernel reads no more than there is; channels lie side by side
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        # by name: torch's compiler before 2.12 unpacks no list that was built under it
        lists = blocks.tokens, blocks.first, blocks.keys, blocks.first_back, blocks.queries
        out, lse = block_sparse_attention(q, k, v, *lists, blocks.complete, self.tune)
        return out, lse


def _check_blocks(q: Tensor, k: Tensor, blocks: BlockList) -> None:
    batch, heads, length, _ = q.shape
    if length != blocks.length or k.shape[2] != blocks.length:
        raise ValueError(f"a list of blocks of {blocks.length} tokens for {length} queries and {k.shape[2]} keys")
    for part, name in ((blocks.tokens[:, 0, 0], "tokens"), (blocks.first[:, 0, 0], "first")):
        if len(part) not in (1, batch):
            raise ValueError(f"a list of blocks with {len(part)} samples in {name} for a batch of {batch}")
    if blocks.first.shape[1] not in (1, heads):
        raise ValueError(f"a list of blocks for {blocks.first.shape[1]} heads for {heads} heads")
    if blocks.tokens.device != q.device and q.device != torch.device("meta"):
        raise ValueError(f"the list of blocks is on {blocks.tokens.device} and q on {q.device}: build it there")

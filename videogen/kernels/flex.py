"""Attention by torch's FlexAttention: a kernel that torch.compile writes for each mask."""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from videogen.kernels import ATTENTION, Support
from videogen.kernels._shared import check


@ATTENTION.register("flex")
class FlexAttention:
    """torch.nn.attention.flex_attention, https://arxiv.org/abs/2412.05496, compiled, with zeros where nothing is seen.

    A mask is read once and skipped block by block where nothing is True; its kernel is compiled for each shape.
    """

    support = Support(
        dtypes=frozenset({"float16", "bfloat16", "float32"}),
        devices=frozenset({"cuda"}),
        max_head_dim=256,
        mask=True,
        backward=True,
    )

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim).

        Args:
            mask: (B, L) or (B, 1 or heads, 1 or N, L) bool, True = attend; a query that attends to nothing gets zeros.

        Raises:
            ValueError: shapes, dtype, device or mask that don't fit.
        """
        q, k, v, mask = check("flex", self.support, q, k, v, mask)
        return attend(_compiled(), q, k, v, mask)


def attend(run: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """FlexAttention under a mask (B, 1 or heads, 1 or N, L), by `run`, compiled or not."""
    if mask is None:
        return cast("Tensor", run(q, k, v))
    batch, heads, queries, keys = *q.shape[:3], k.shape[2]
    whole = mask.expand(batch, heads, queries, keys)
    samples, each = batch, heads if mask.shape[1] > 1 else 1
    block_mask = create_block_mask(
        lambda b, h, i, j: whole[b, h, i, j], samples, each, queries, keys, device=str(q.device)
    )
    out: Tensor = run(q, k, v, block_mask=block_mask)
    return out.masked_fill(~mask.any(-1, keepdim=True), 0.0)


@functools.cache
def _compiled() -> Any:
    return torch.compile(flex_attention)

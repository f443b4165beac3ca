"""Attention in plain torch with a softmax in float32: the truth that other kernels are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from videogen.kernels import ATTENTION, Support
from videogen.kernels._shared import TORCH_DEVICES, TORCH_DTYPES, check


@ATTENTION.register("reference")
class ReferenceAttention:
    """Two matrix products and a softmax, all in float32 (float64 for float64 inputs), rounded once at the end.

    Scaled dot-product attention, https://arxiv.org/abs/1706.03762, eq. 1. It stores the (N, L) matrix of every head.
    """

    support = Support(dtypes=TORCH_DTYPES, devices=TORCH_DEVICES, max_head_dim=None, mask=True, backward=True)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim), in the dtype of q.

        Args:
            mask: (B, L) or (B, 1 or heads, 1 or N, L) bool, True = attend; a query that attends to nothing gets zeros.

        Raises:
            ValueError: shapes, dtype, device or mask that don't fit.
        """
        q, k, v, mask = check("reference", self.support, q, k, v, mask)
        # autocast would round the operands of both products again
        with torch.autocast(q.device.type, enabled=False):
            wide = torch.promote_types(q.dtype, torch.float32)
            scores = q.to(wide) @ k.to(wide).transpose(-1, -2) * q.shape[-1] ** -0.5
            if mask is None:
                weights = scores.softmax(-1)
            else:
                # a finite fill and a second zero: a query that may attend to nothing gets zeros, not 0/0, and a
                # gradient of zero
                weights = scores.masked_fill(~mask, torch.finfo(wide).min).softmax(-1).masked_fill(~mask, 0.0)
            out: Tensor = weights @ v.to(wide)
        return out.to(q.dtype)

"""An attention kernel where tensors have shapes and no numbers."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor

from videogen.kernels import Attention


class OnMeta:
    """Stands in for any kernel on the meta device: says what that kernel supports, and is counted as torch's own.

    Args:
        kernel: that a model is to run with.
    """

    def __init__(self, kernel: Attention) -> None:
        self.kernel = kernel
        devices = kernel.support.devices | {"meta"}
        self.support = dataclasses.replace(kernel.support, devices=devices, axes=False, blocks=False)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim)."""
        return F.scaled_dot_product_attention(q, k, v)

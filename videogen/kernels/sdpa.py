"""Attention by torch's scaled_dot_product_attention: fused on every device, the default."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from videogen.kernels import ATTENTION, Support
from videogen.kernels._shared import TORCH_DEVICES, TORCH_DTYPES, check

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


@ATTENTION.register("sdpa")
class SdpaAttention:
    """torch.nn.functional.scaled_dot_product_attention, with zeros for a query that may attend to nothing.

    Args:
        backend: "auto" lets torch choose; the others force one of its kernels, which then refuses what it can't do.
    """

    support = Support(dtypes=TORCH_DTYPES, devices=TORCH_DEVICES, max_head_dim=None, mask=True, backward=True)

    def __init__(self, *, backend: Literal["auto", "math", "flash", "efficient", "cudnn"] = "auto") -> None:
        if backend != "auto" and backend not in BACKENDS:
            raise ValueError(f"sdpa has no backend {backend!r}: choose from auto, {', '.join(BACKENDS)}")
        self.backend = backend

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """q (B, heads, N, head_dim), k and v (B, heads, L, head_dim) -> (B, heads, N, head_dim).

        Args:
            mask: (B, L) or (B, 1 or heads, 1 or N, L) bool, True = attend; a query that attends to nothing gets zeros.

        Raises:
            ValueError: shapes, dtype, device or mask that don't fit, or a forced backend that can't run them.
        """
        q, k, v, mask = check("sdpa", self.support, q, k, v, mask)
        if mask is None:
            return self._run(q, k, v, None)
        # torch's kernels disagree on a row with nothing to attend to (zeros, NaN or the mean, by version and device):
        # let such a row attend to everything and blank it, which also makes its gradient an exact zero
        blank = ~mask.any(-1, keepdim=True)
        if blank.shape[2] == 1:
            # of all rows alike the values are blanked, since those of a text are far fewer than its readers
            return self._run(q, k, v.masked_fill(blank, 0.0), mask | blank)
        return self._run(q, k, v, mask | blank).masked_fill(blank, 0.0)

    def _run(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if self.backend == "auto":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        try:
            with sdpa_kernel(BACKENDS[self.backend]):
                return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        except RuntimeError as error:
            if not any(words in str(error) for words in ("No viable backend", "No available kernel")):
                raise
            given = f"{q.dtype} on {q.device.type}, head_dim {q.shape[-1]}, {'no mask' if mask is None else 'a mask'}"
            raise ValueError(f"sdpa backend={self.backend} cannot run {given}: use backend=auto") from error

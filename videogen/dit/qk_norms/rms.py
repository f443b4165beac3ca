"""RMSNorm of each head."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.qk_norms import QK_NORMS


@QK_NORMS.register("rms")
class HeadRMSNorm(nn.RMSNorm):
    """RMSNorm of each head, https://arxiv.org/abs/2302.05442: attention logits stay bounded.

    Args:
        num_heads: attention heads.
        head_dim: channels of a head.
        eps: added to the mean square.
    """

    def __init__(self, num_heads: int, head_dim: int, *, eps: float = 1e-6) -> None:
        super().__init__(head_dim, eps=eps)

    def forward(self, x: Float[Tensor, "b n heads head_dim"]) -> Float[Tensor, "b n heads head_dim"]:
        """(B, N, heads, head_dim) -> the same, in the dtype of x."""
        assert self.weight is not None
        # autocast leaves this weight in float32, for which torch has no fused kernel beside a bfloat16 x
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)

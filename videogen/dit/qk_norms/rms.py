"""RMSNorm of each head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import rms_norm
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
        return rms_norm(x, self.weight, self.eps)

"""LayerNorm of each head."""

from __future__ import annotations

from torch import nn

from videogen.dit.qk_norms import QK_NORMS


@QK_NORMS.register("layer")
class HeadLayerNorm(nn.LayerNorm):
    """LayerNorm of each head, with weights: CogVideoX.

    Args:
        num_heads: attention heads.
        head_dim: channels of a head.
        eps: added to the variance.
    """

    def __init__(self, num_heads: int, head_dim: int, *, eps: float = 1e-6) -> None:
        super().__init__(head_dim, eps=eps)

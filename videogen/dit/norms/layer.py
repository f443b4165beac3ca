"""LayerNorm of the tokens, with or without weights."""

from __future__ import annotations

from torch import nn

from videogen.dit.norms import NORMS


@NORMS.register("layer")
class LayerNorm(nn.LayerNorm):
    """LayerNorm, without weights unless `affine`: where a modulation scales and shifts, they would be one too many.

    Args:
        dim: width of the tokens.
        affine: a learned scale and shift of its own.
        eps: added to the variance.
    """

    def __init__(self, dim: int, *, affine: bool = False, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps, elementwise_affine=affine)

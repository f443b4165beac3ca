"""RMSNorm of the tokens, with or without weights."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import rms_norm
from videogen.dit.norms import NORMS


@NORMS.register("rms")
class RMSNorm(nn.RMSNorm):
    """RMSNorm, https://arxiv.org/abs/1910.07467, without weights unless `affine`.

    Args:
        dim: width of the tokens.
        affine: a learned scale of its own.
        eps: added to the mean square.
    """

    def __init__(self, dim: int, *, affine: bool = False, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps, elementwise_affine=affine)

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """(…, dim) -> the same, in the dtype of x."""
        return rms_norm(x, self.weight, self.eps)

"""A SiLU-gated linear unit."""

from __future__ import annotations

from typing import ClassVar

from videogen.dit.mlps import MLPS
from videogen.dit.mlps._gated import Gated
from videogen.kernels.fused import Activation


@MLPS.register("swiglu")
class SwiGLU(Gated):
    """SiLU-gated linear unit, https://arxiv.org/abs/2002.05202.

    Args:
        dim: width of the tokens.
        ratio: hidden width as a multiple of dim; 8 / 3 has as many weights as a plain MLP of ratio 4.
        hidden: hidden width itself, in place of the ratio.
        bias: whether the layers have one.
    """

    activation: ClassVar[Activation] = "silu"

"""The gated linear unit, whatever its activation."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from videogen.dit.fusible import Fusible
from videogen.dit.initial import linear
from videogen.kernels.fused import Activation


class Gated(Fusible):
    """out(activation(gate) * value); `inner` gives value and gate in one product."""

    activation: ClassVar[Activation] = "gelu"

    def __init__(self, dim: int, *, ratio: float = 4.0, hidden: int | None = None, bias: bool = True) -> None:
        super().__init__()
        width = hidden or int(dim * ratio)
        self.inner, self.out = linear(dim, 2 * width, bias), linear(width, dim, bias)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)."""
        out: Tensor = self.out(self.ops.gated(self.inner(tokens), self.activation))
        return out

"""The gated linear unit, whatever its activation."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.initial import linear


class Gated(nn.Module):
    """out(activation(gate) * value); `inner` gives value and gate in one product."""

    activation: Callable[[Tensor], Tensor] = staticmethod(F.gelu)

    def __init__(self, dim: int, *, ratio: float = 4.0, hidden: int | None = None, bias: bool = True) -> None:
        super().__init__()
        width = hidden or int(dim * ratio)
        self.inner, self.out = linear(dim, 2 * width, bias), linear(width, dim, bias)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)."""
        value, gate = self.inner(tokens).chunk(2, dim=-1)
        out: Tensor = self.out(value * self.activation(gate))
        return out

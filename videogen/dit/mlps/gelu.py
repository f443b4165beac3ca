"""Two linear layers around a GELU."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.arithmetic import linear_gelu
from videogen.dit.initial import linear
from videogen.dit.mlps import MLPS


@MLPS.register("gelu")
class MLP(nn.Sequential):
    """Two linear layers around a GELU; (B, N, D) -> (B, N, D).

    Args:
        dim: width of the tokens.
        ratio: hidden width as a multiple of dim.
        hidden: hidden width itself, in place of the ratio.
        approximate: "tanh" as in DiT and T5, or "none".
        bias: whether the layers have one.
    """

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        hidden: int | None = None,
        approximate: Literal["tanh", "none"] = "tanh",
        bias: bool = True,
    ) -> None:
        width = hidden or int(dim * ratio)
        super().__init__(linear(dim, width, bias), nn.GELU(approximate=approximate), linear(width, dim, bias))

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)."""
        inner, gelu, out = self
        assert isinstance(gelu, nn.GELU)
        found: Tensor = out(linear_gelu(inner, tokens, gelu.approximate))
        return found

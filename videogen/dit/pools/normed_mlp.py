"""LayerNorm of the encoder's pooled vector, then an MLP."""

from __future__ import annotations

from torch import nn

from videogen.dit.initial import linear
from videogen.dit.pools import POOLS
from videogen.dit.pools._vector import OfVector


@POOLS.register("normed_mlp")
class NormedMLPPool(OfVector):
    """LayerNorm, then two linear layers around a GELU, on the pooled vector.

    Args:
        text_dim: width of the text tokens.
        pooled_dim: width of the pooled vector.
        dim: width of the embedded timestep.
    """

    def __init__(self, text_dim: int, pooled_dim: int, dim: int) -> None:
        layers = linear(pooled_dim, dim), nn.GELU(approximate="tanh"), linear(dim, dim)
        super().__init__(nn.LayerNorm(pooled_dim), *layers)

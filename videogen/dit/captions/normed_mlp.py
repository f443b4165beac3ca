"""LayerNorm, then an MLP."""

from __future__ import annotations

from torch import nn

from videogen.dit.captions import CAPTIONS
from videogen.dit.initial import linear


@CAPTIONS.register("normed_mlp")
class NormedMLP(nn.Sequential):
    """LayerNorm, then two linear layers around a GELU: encoders differ widely in scale (T5 has channels of hundreds).

    Args:
        text_dim: width of the text encoder.
        dim: width of the tokens.
    """

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__(nn.LayerNorm(text_dim), linear(text_dim, dim), nn.GELU(approximate="tanh"), linear(dim, dim))

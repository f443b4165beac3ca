"""An MLP, as in PixArt."""

from __future__ import annotations

from torch import nn

from videogen.dit.captions import CAPTIONS
from videogen.dit.initial import linear


@CAPTIONS.register("mlp")
class CaptionMLP(nn.Sequential):
    """Two linear layers around a GELU, as in PixArt, Latte, Wan and LTX-Video.

    Args:
        text_dim: width of the text encoder.
        dim: width of the tokens.
    """

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__(linear(text_dim, dim), nn.GELU(approximate="tanh"), linear(dim, dim))

"""One linear layer."""

from __future__ import annotations

from torch import nn

from videogen.dit.captions import CAPTIONS
from videogen.dit.initial import linear


@CAPTIONS.register("linear")
class CaptionLinear(nn.Sequential):
    """One linear layer, as in CogVideoX.

    Args:
        text_dim: width of the text encoder.
        dim: width of the tokens.
    """

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__(linear(text_dim, dim))

"""The text as it is."""

from __future__ import annotations

from torch import nn

from videogen.dit.captions import CAPTIONS


@CAPTIONS.register("none")
class NoCaption(nn.Identity):
    """The text as it is.

    Args:
        text_dim: width of the text encoder.
        dim: width of the tokens, the same.

    Raises:
        ValueError: it isn't.
    """

    def __init__(self, text_dim: int, dim: int) -> None:
        if text_dim != dim:
            raise ValueError(f"text of width {text_dim} doesn't fit tokens of width {dim}: use dit.caption=linear")
        super().__init__()

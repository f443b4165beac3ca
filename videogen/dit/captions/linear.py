"""One linear layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.captions import CAPTIONS
from videogen.dit.initial import linear


@CAPTIONS.register("linear")
class CaptionLinear(nn.Sequential):
    """One linear layer, as in CogVideoX.

    Args:
        text_dim: width of the text encoder.
        dim: width of the tokens.
        places: how many places of the text have a code of their own, added to the word there, as in CogVideoX-5B-I2V;
            the codes come with its weights and aren't trained further. 0 is none.

    Raises:
        ValueError: a negative number of places.
    """

    codes: Tensor | None

    def __init__(self, text_dim: int, dim: int, *, places: int = 0) -> None:
        super().__init__(linear(text_dim, dim))
        if places < 0:
            raise ValueError(f"places={places} is below 0: use 0 for no codes")
        self.register_buffer("codes", torch.zeros(places, dim) if places else None)

    def forward(self, text: Float[Tensor, "b l text_dim"]) -> Float[Tensor, "b l dim"]:
        """(B, L, text_dim) -> (B, L, dim).

        Raises:
            ValueError: a text that is longer than the places with codes.
        """
        words: Tensor = super().forward(text)  # type: ignore[no-untyped-call]
        if self.codes is None:
            return words
        if text.shape[1] > len(self.codes):
            raise ValueError(f"a text of {text.shape[1]} tokens, and this model knows {len(self.codes)}: shorten it")
        return words + self.codes[: text.shape[1]].to(words.dtype)

"""Text condition encoders: the contract that all of them keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class TextFeatures(NamedTuple):
    """Encoded text: tokens (B, L, D), mask (B, L) bool with True for words, pooled (B, D) or None."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None


class EncoderSize(NamedTuple):
    """The size that an encoder usually has: `usual` of one that is read from a folder, for when there is none at hand.

    Args:
        name: of the published encoder.
        dim: width of its tokens.
        num_parameters: of the encoder alone.
        pooled_dim: width of its pooled vector; None is that of the tokens.
    """

    name: str
    dim: int
    num_parameters: int
    pooled_dim: int | None = None


class TextEncoder(Protocol):
    """From sentences to tokens that a denoiser attends to.

    One whose pooled vector is of another width than its tokens says so in an attribute `pooled_dim`.
    """

    @property
    def dim(self) -> int:
        """Width D of the tokens."""
        ...

    def encode(self, sentences: list[str]) -> TextFeatures:
        """Sentences -> tokens (B, L, D) padded to the longest, mask (B, L), pooled (B, D) or None."""
        ...

    def null(self, batch: int) -> TextFeatures:
        """The features of "no text", for classifier-free guidance, repeated `batch` times."""
        ...

    def unknown(self, sentence: str) -> list[str]:
        """Words of the sentence that the encoder never saw in training, in order; empty for open vocabularies."""
        ...


TEXT_ENCODERS: Registry[Any] = Registry("text", "videogen.text")

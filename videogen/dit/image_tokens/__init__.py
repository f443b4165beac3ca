"""Image tokens beside the text: from an image encoder's width to the model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from videogen.denoiser import Condition


class ImageTokens(Protocol):
    """From the image of a condition to tokens of the model's width; built as `tokens(dim, *, knobs)`, an nn.Module.

    One whose models were never trained without an image has {"image"} as its attribute `required`.
    """

    #: the fields of the condition that it reads
    conditions: frozenset[str]
    #: width of the image encoder's tokens; 0 where there are none
    image_dim: int
    #: how many tokens there always are; None for any number
    count: int | None

    def __call__(self, condition: Condition) -> Tensor | None:
        """(B, L, D), or None without an image."""
        ...


IMAGE_TOKENS: Registry[Any] = Registry("dit/image_tokens", "videogen.dit.image_tokens")

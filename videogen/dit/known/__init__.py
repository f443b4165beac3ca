"""Latents of known frames beside the noisy ones: image to video, inpainting, extension."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from videogen.denoiser import Condition


class Known(Protocol):
    """How known latents reach the tokens; built as `known(latent_channels, volume, dim, *, knobs)`, an nn.Module.

    The volume is the number of latents along time, height and width in a patch. One that can't do without known
    latents has {"known"} as its attribute `required`, and one with channels of mask their number as `mask_channels`.
    """

    #: the fields of the condition that it reads
    conditions: frozenset[str]
    #: further channels of every latent that is embedded
    channels: int

    def beside(self, latents: Tensor, condition: Condition) -> Tensor | None:
        """What is known, (B, M + C, T, H, W), the mask of M channels first; None where the model takes none."""
        ...

    def __call__(self, embed: Callable[[Tensor], Tensor], patches: Tensor, beside: Tensor | None) -> Tensor:
        """Tokens (B, N, D) of patches of the latents and of what `beside` gave, by the layer that embeds patches."""
        ...


KNOWN: Registry[Any] = Registry("dit/known", "videogen.dit.known")

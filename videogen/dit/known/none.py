"""No frames are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.known import KNOWN


@KNOWN.register("none")
class NoneKnown(nn.Module):
    """For a model that makes all frames itself."""

    conditions: ClassVar[frozenset[str]] = frozenset()
    channels: ClassVar[int] = 0

    def __init__(self, latent_channels: int, volume: int, dim: int) -> None:
        super().__init__()

    def beside(self, latents: Tensor, condition: Condition) -> None:
        """None."""

    def forward(
        self, embed: Callable[[Tensor], Tensor], patches: Float[Tensor, "b n c_patch"], beside: None
    ) -> Float[Tensor, "b n dim"]:
        """(B, N, C_patch) -> (B, N, D)."""
        return embed(patches)

"""Known latents and their mask through a layer each, added to the tokens; without any, nothing is added."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.denoiser import Condition
from videogen.dit.initial import zero_linear
from videogen.dit.known import KNOWN
from videogen.dit.known._channels import KnownChannels


@KNOWN.register("apart")
class ApartKnown(KnownChannels):
    """Two layers that start at zero, the mask's as wide as that of the latents: Open-Sora 1.3.

    https://github.com/hpcaitech/Open-Sora, branch opensora/v1.3, `x_embedder_cond` and `x_embedder_cond_mask`.

    Args:
        latent_channels: of the known latents; the mask of frames is repeated for each.
        volume: latents along time, height and width in a patch.
        dim: width of the tokens.
    """

    def __init__(self, latent_channels: int, volume: int, dim: int) -> None:
        super().__init__(mask_channels=1)
        self.latents, self.mask = (zero_linear(latent_channels * volume, dim) for _ in range(2))

    def beside(  # type: ignore[override]
        self, latents: Float[Tensor, "b c t h w"], condition: Condition
    ) -> Float[Tensor, "b c_known t h w"] | None:
        """The mask, once for each channel, and the known latents; None where the condition has neither.

        Raises:
            ValueError: one without the other, or another shape.
        """
        if condition.known is None and condition.known_mask is None:
            return None
        mask, known = super().beside(latents, condition).tensor_split([1], dim=1)
        return torch.cat([mask.expand_as(known), known], dim=1)

    def forward(
        self,
        embed: Callable[[Tensor], Tensor],
        patches: Float[Tensor, "b n c_patch"],
        beside: Float[Tensor, "b n c_known"] | None,
    ) -> Float[Tensor, "b n dim"]:
        """(B, N, C_patch), (B, N, C_known) -> (B, N, D)."""
        if beside is None:
            return embed(patches)
        mask, known = beside.chunk(2, dim=-1)
        tokens: Tensor = embed(patches) + self.latents(known) + self.mask(mask)
        return tokens

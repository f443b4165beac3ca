"""Known latents through a layer of their own, added to the tokens."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from videogen.denoiser import Condition
from videogen.dit.initial import zero_linear
from videogen.dit.known import KNOWN
from videogen.dit.known._channels import KnownChannels


@KNOWN.register("add")
class AddKnown(KnownChannels):
    """A layer that starts at zero; nothing known adds nothing but its bias: Open-Sora 2.0.

    https://arxiv.org/abs/2503.09642, section 3.

    Args:
        latent_channels: of the known latents.
        volume: latents along time, height and width in a patch.
        dim: width of the tokens.
        mask_channels: of the mask that tells what is known, see `concat`.

    Raises:
        ValueError: a negative number of channels.
    """

    def __init__(self, latent_channels: int, volume: int, dim: int, *, mask_channels: int = 0) -> None:
        super().__init__(mask_channels)
        self.layer = zero_linear((latent_channels + mask_channels) * volume, dim)

    def beside(self, latents: Float[Tensor, "b c t h w"], condition: Condition) -> Float[Tensor, "b c_known t h w"]:
        """Mask and known latents, zeros where the condition has none."""
        if condition.known is not None:
            return super().beside(latents, condition)
        if condition.known_mask is not None:
            raise ValueError("condition.known_mask is given without condition.known: give both or neither")
        channels = self.mask_channels + latents.shape[1]
        return latents.new_zeros(len(latents), channels, *latents.shape[2:])

    def forward(
        self,
        embed: Callable[[Tensor], Tensor],
        patches: Float[Tensor, "b n c_patch"],
        beside: Float[Tensor, "b n c_known"],
    ) -> Float[Tensor, "b n dim"]:
        """(B, N, C_patch), (B, N, C_known) -> (B, N, D)."""
        tokens: Tensor = embed(patches) + self.layer(beside)
        return tokens

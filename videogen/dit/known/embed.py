"""Known latents and their mask through two layers each, added to the tokens."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.initial import linear, zero_linear
from videogen.dit.known import KNOWN
from videogen.dit.known._channels import KnownChannels


@KNOWN.register("embed")
class EmbedKnown(KnownChannels):
    """Starts as nothing, so that the weights of a model that knows no frames go on in one that does.

    Open-Sora-Plan v1.3, https://arxiv.org/abs/2412.00131. It was trained with the latents of a blank video where
    nothing is known, and has no word for none at all.

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
        latents, mask = latent_channels * volume, mask_channels * volume
        self.sizes = [mask, latents]
        self.latents = nn.Sequential(linear(latents, dim), zero_linear(dim, dim, bias=False))
        self.mask = nn.Sequential(linear(mask, dim), zero_linear(dim, dim, bias=False)) if mask else None

    def forward(
        self,
        embed: Callable[[Tensor], Tensor],
        patches: Float[Tensor, "b n c_patch"],
        beside: Float[Tensor, "b n c_known"],
    ) -> Float[Tensor, "b n dim"]:
        """The mask is 1 where frames are known; its layers are told what isn't."""
        mask, latents = beside.split(self.sizes, dim=-1)
        tokens: Tensor = embed(patches) + self.latents(latents)
        return tokens if self.mask is None else tokens + self.mask(1 - mask)

"""Known latents as further channels of every patch."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.denoiser import Condition
from videogen.dit.known import KNOWN
from videogen.dit.known._channels import KnownChannels, known_channels


@KNOWN.register("concat")
class ConcatKnown(KnownChannels):
    """The noisy latents, the mask and the known ones through one layer: CogVideoX, HunyuanVideo, Wan.

    Wan, https://arxiv.org/abs/2503.20314, section 5.1.

    Args:
        latent_channels: of the noisy latents, and as many of the known ones.
        volume: latents along time, height and width in a patch.
        dim: width of the tokens.
        mask_channels: of the mask that tells what is known: 0 for no mask, 1 for one of frames, as many as there are
            frames of video in a latent one for a mask of those.
        scale: what the known latents are multiplied with, where a model was trained with others than the noisy ones
            are scaled to: CogVideoX1.5-5B-I2V.

    Raises:
        ValueError: a negative number of channels, or a scale that isn't above 0.
    """

    required: ClassVar[frozenset[str]] = frozenset({"known"})

    def __init__(
        self, latent_channels: int, volume: int, dim: int, *, mask_channels: int = 0, scale: float = 1.0
    ) -> None:
        super().__init__(mask_channels)
        if scale <= 0:
            raise ValueError(f"scale={scale} is what known latents are multiplied with: give a number above 0")
        self.channels, self.scale = latent_channels + mask_channels, scale

    def beside(self, latents: Float[Tensor, "b c t h w"], condition: Condition) -> Float[Tensor, "b c_known t h w"]:
        """See `known_channels`."""
        return known_channels(latents, condition, self.mask_channels, self.scale)

    def forward(
        self,
        embed: Callable[[Tensor], Tensor],
        patches: Float[Tensor, "b n c_patch"],
        beside: Float[Tensor, "b n c_known"],
    ) -> Float[Tensor, "b n dim"]:
        """Both, with the channels outermost in each patch, are a patch of both."""
        return embed(torch.cat([patches, beside], dim=-1))

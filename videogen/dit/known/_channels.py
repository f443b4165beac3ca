"""What is known as channels: the mask, then the latents."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.denoiser import Condition


class KnownChannels(nn.Module):
    """The base of the parts that take known latents, with a mask of so many channels or without.

    Raises:
        ValueError: a negative number of channels.
    """

    channels = 0

    def __init__(self, mask_channels: int) -> None:
        super().__init__()
        if mask_channels < 0:
            raise ValueError(f"mask_channels={mask_channels} is below 0: use 0 for no mask")
        self.mask_channels = mask_channels
        self.conditions = frozenset({"known", "known_mask"} if mask_channels else {"known"})

    def beside(self, latents: Float[Tensor, "b c t h w"], condition: Condition) -> Float[Tensor, "b c_known t h w"]:
        """See `known_channels`."""
        return known_channels(latents, condition, self.mask_channels)


def known_channels(
    latents: Float[Tensor, "b c t h w"], condition: Condition, mask_channels: int, scale: float = 1.0
) -> Float[Tensor, "b c_known t h w"]:
    """The mask, then the known latents as they are: (B, M + C, T, H, W) for latents (B, C, T, H, W).

    What the known latents hold where nothing is known is up to those who trained the model: zeros, or the latents of
    a video that is blank there.

    Args:
        mask_channels: M, 1 where the model knows.
        scale: what the known latents are multiplied with.

    Raises:
        ValueError: known latents or their mask are missing, or of another shape.
    """
    if condition.known is None:
        raise ValueError("condition.known is missing and this model needs it: give latents of the latents' own shape")
    condition.require_shape("known", tuple(latents.shape))
    known = condition.known.to(latents.dtype)
    known = known if scale == 1 else known * scale
    if not mask_channels:
        return known
    mask = condition.known_mask
    if mask is None:
        raise ValueError("condition.known_mask is missing and this model needs it: say which frames are known, (B, T)")
    batch, _, *grid = latents.shape
    condition.require_shape("known_mask", (batch, grid[0]) if mask.ndim == 2 else (batch, mask_channels, *grid))
    if mask.ndim == 2:
        mask = mask[:, None, :, None, None].expand(-1, mask_channels, -1, *grid[1:])
    return torch.cat([mask.to(latents.dtype), known], dim=1)

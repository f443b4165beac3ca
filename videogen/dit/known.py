"""Latents of known frames, beside the noisy ones in every patch: image to video, inpainting, extension."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.initial import linear, zero_linear


class KnownEmbedding(nn.Module):
    """What is added to the embedded patches: known latents, and a mask of what is not known, each through two layers.

    It starts as nothing, so that the weights of a model that knows no frames go on in one that does:
    Open-Sora-Plan v1.3, https://arxiv.org/abs/2412.00131.

    Args:
        latents: numbers in a patch of latents.
        mask: numbers in a patch of the mask; 0 for no mask.
        dim: width of the tokens.
    """

    def __init__(self, latents: int, mask: int, dim: int) -> None:
        super().__init__()
        self.sizes = [mask, latents]
        self.latents = nn.Sequential(linear(latents, dim), zero_linear(dim, dim, bias=False))
        self.mask = nn.Sequential(linear(mask, dim), zero_linear(dim, dim, bias=False)) if mask else None

    def forward(self, patches: Float[Tensor, "b n c_patch"]) -> Float[Tensor, "b n dim"]:
        """Patches of the mask, 1 where the model knows, and of the known latents behind them -> (B, N, D)."""
        mask, latents = patches.split(self.sizes, dim=-1)
        tokens: Tensor = self.latents(latents)
        return tokens if self.mask is None else tokens + self.mask(1 - mask)


def known_embedding(kind: str, latents: int, mask: int, dim: int) -> nn.Module | None:
    """From patches of what is known to what is added to the tokens; None where it isn't taken, or as channels."""
    match kind:
        case "add":
            return zero_linear(latents + mask, dim)
        case "embed":
            return KnownEmbedding(latents, mask, dim)
    return None


def known_fields(channels: bool, mask_channels: int) -> set[str]:
    """The fields of the condition that a model takes with these knobs.

    Raises:
        ValueError: a mask for known latents that the model doesn't take.
    """
    if mask_channels < 0 or (mask_channels and not channels):
        raise ValueError(
            f"known_mask_channels={mask_channels} is 0 or more, and above 0 with known=concat, add or embed alone"
        )
    return {"known", *(["known_mask"] if mask_channels else [])} if channels else set()


def with_known(
    latents: Float[Tensor, "b c t h w"], condition: Condition, mask_channels: int
) -> Float[Tensor, "b c_all t h w"]:
    """The latents, then `known_channels`: (B, C, T, H, W) -> (B, 2 C + M, T, H, W)."""
    return torch.cat([latents, known_channels(latents, condition, mask_channels)], dim=1)


def known_channels(
    latents: Float[Tensor, "b c t h w"], condition: Condition, mask_channels: int
) -> Float[Tensor, "b c_known t h w"]:
    """The mask, then the known latents as they are: (B, M + C, T, H, W) for latents (B, C, T, H, W).

    What the known latents hold where nothing is known is up to those who trained the model: zeros, or the latents of
    a video that is blank there.

    Args:
        mask_channels: M, 1 where the model knows.

    Raises:
        ValueError: known latents or their mask are missing, or of another shape.
    """
    if condition.known is None:
        raise ValueError("condition.known is missing and this model needs it: give latents of the latents' own shape")
    condition.require_shape("known", tuple(latents.shape))
    known = condition.known.to(latents.dtype)
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

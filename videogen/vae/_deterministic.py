"""The posterior of autoencoders that encode to one point."""

from __future__ import annotations

from jaxtyping import Float
from torch import Generator, Tensor


class Deterministic:
    """All mass on one point: nothing to draw, and no divergence that training could push down.

    Args:
        latents: (B, C, T, H, W).
    """

    def __init__(self, latents: Float[Tensor, "b c t h w"]) -> None:
        self.latents = latents

    def mode(self) -> Tensor:
        """The latents (B, C, T, H, W)."""
        return self.latents

    def sample(self, generator: Generator | None = None) -> Tensor:
        """The latents (B, C, T, H, W), whatever the generator."""
        return self.latents

    def kl(self) -> Tensor:
        """Zero (B,): these autoencoders are trained without a prior."""
        return self.latents.new_zeros(self.latents.shape[0])

"""The diagonal Gaussian that KL autoencoders encode to."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor


class DiagonalGaussian:
    """Posterior over latents from stacked mean and log-variance (Kingma and Welling, arXiv 1312.6114).

    Args:
        moments: (B, 2C, T, H, W), mean first; the log-variance is clamped to [-30, 20].
    """

    def __init__(self, moments: Float[Tensor, "b two_c t h w"]) -> None:
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    def mode(self) -> Tensor:
        """The mean (B, C, T, H, W)."""
        return self.mean

    def sample(self, generator: Generator | None = None) -> Tensor:
        """mean + std * noise (B, C, T, H, W)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """KL(posterior || N(0, 1)), summed over all but the batch (B,) (arXiv 1312.6114, appendix B)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).flatten(1).sum(1)

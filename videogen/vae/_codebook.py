"""Vector quantisation: a codebook that learns by running means, and the posterior of one code per position.

After "Neural Discrete Representation Learning" (arXiv 1711.00937).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._deterministic import Deterministic

#: positions whose distances to all codes are in memory at a time
ROWS = 2**14


class Quantised(Deterministic):
    """The codes nearest to an encoder's features; the latents are their embeddings, their gradient is the features'.

    Args:
        features: (B, C, t, h, w).
        codes: (B, t, h, w).
        embeddings: of the codes (B, C, t, h, w).
    """

    def __init__(self, features: Tensor, codes: Tensor, embeddings: Tensor) -> None:
        # the straight-through estimator; the bracket is exactly zero, so the latents are exactly the embeddings
        super().__init__(embeddings + (features - features.detach()))
        self.features, self.codes, self.embeddings = features, codes, embeddings

    def commitment_loss(self, weight: float = 0.25) -> Tensor:
        """Weighted mean squared distance of the features from their codes (arXiv 1711.00937, equation 3)."""
        return weight * F.mse_loss(self.features, self.embeddings)

    def perplexity(self) -> Tensor:
        """How many codes are in use: e to the entropy of their frequencies."""
        shares = torch.bincount(self.codes.flatten()) / self.codes.numel()
        entropy: Tensor = torch.special.entr(shares).sum()
        return entropy.exp()


class Codebook(nn.Module):
    """Embeddings that follow the mean of the features nearest to them (arXiv 1711.00937, appendix A.1)."""

    embeddings: Tensor
    count: Tensor
    total: Tensor

    def __init__(self, size: int, channels: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("embeddings", torch.randn(size, channels))
        # running number and running sum of the features of each code; no numbers: it hasn't begun
        self.register_buffer("count", torch.zeros(size))
        self.register_buffer("total", self.embeddings.clone())

    def quantise(self, features: Tensor) -> Quantised:
        """Features (B, C, t, h, w) -> the nearest codes; in training mode the codebook then learns from them."""
        rows = rearrange(features.detach(), "b c t h w -> (b t h w) c")
        if self.training and not self.count.any():
            self._begin(rows)
        nearest = self._nearest(rows)
        codes = nearest.view(features.shape[0], *features.shape[2:])
        quantised = Quantised(features, codes, self.embed(codes))
        if self.training:
            self._learn(rows, nearest)
        return quantised

    def embed(self, codes: Tensor) -> Tensor:
        """Codes (B, t, h, w) -> embeddings (B, C, t, h, w)."""
        embeddings: Tensor = F.embedding(codes, self.embeddings).movedim(-1, 1)
        return embeddings

    def _nearest(self, rows: Tensor) -> Tensor:
        # at least float32: a coarser type can't tell near codes apart
        dtype = torch.promote_types(rows.dtype, torch.float32)
        codes = self.embeddings.to(dtype)
        norms = codes.square().sum(1)
        # |row - code|^2 without |row|^2, which is the same for all codes; autocast would multiply in the coarser type,
        # though not on the meta device, which has none
        with torch.autocast("cpu" if rows.is_meta else rows.device.type, enabled=False):
            pieces = [
                torch.addmm(norms, piece.to(dtype), codes.T, alpha=-2).argmin(1) for piece in torch.split(rows, ROWS)
            ]
        return torch.cat(pieces)

    def _draw(self, rows: Tensor) -> Tensor:
        """As many rows as there are codes, at random; where they don't suffice, again with a little noise."""
        repeats = -(-len(self.embeddings) // len(rows))
        picked = rows[torch.randperm(repeats * len(rows), device=rows.device)[: len(self.embeddings)] % len(rows)]
        return picked + 0.01 * rows.shape[1] ** -0.5 * torch.randn_like(picked) if repeats > 1 else picked

    def _begin(self, rows: Tensor) -> None:
        self.embeddings.copy_(self._draw(rows))
        self.total.copy_(self.embeddings)
        self.count.fill_(1.0)

    def _learn(self, rows: Tensor, nearest: Tensor) -> None:
        size = len(self.embeddings)
        self.count.lerp_(torch.bincount(nearest, minlength=size).to(self.count), 1 - self.decay)
        self.total.lerp_(torch.zeros_like(self.total).index_add_(0, nearest, rows.to(self.total)), 1 - self.decay)
        seen = self.count.sum()
        # as if each code had been seen a little, so that none is divided by zero
        smoothed = (self.count + 1e-7) / (seen + size * 1e-7) * seen
        means = self.total / smoothed.unsqueeze(1)
        # a code that is seldom used starts anew where features are
        self.embeddings.copy_(torch.where(self.count.unsqueeze(1) >= 1, means, self._draw(rows)))

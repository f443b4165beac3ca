"""Noise levels between two ends, spaced other than evenly in time: Karras', exponential, and those of a beta law."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Levels = Literal["karras", "exponential", "beta"]
# both shapes of the beta law (Lee et al., arXiv 2407.12173, section 4)
BETA_SHAPE = 0.6
# terms of a series that at least halve from one to the next, and halvings of an interval: to the end of float64
TERMS, HALVINGS = 60, 60


def spaced(kind: Levels, high: float, low: float, steps: int, rho: float) -> Tensor:
    """Descending levels from `high` to `low`, (steps,) float64; `high` alone for one step.

    Args:
        kind: karras: the 1/rho-th powers are even (Karras et al., arXiv 2206.00364, eq. 5). exponential: the logarithms
            are (Lu et al., arXiv 2206.00927, appendix D). beta: the quantiles of a beta law, dense at both ends.
        rho: of karras.
    """
    part = torch.linspace(0, 1, steps, dtype=torch.float64)
    match kind:
        case "exponential":
            return (math.log(high) + part * math.log(low / high)).exp()
        case "karras":
            roots: Tensor = high ** (1 / rho) + part * (low ** (1 / rho) - high ** (1 / rho))
            return roots.pow(rho)
        case "beta":
            return low + (high - low) * beta_quantile(1 - part)


def beta_quantile(share: Tensor, shape: float = BETA_SHAPE) -> Tensor:
    """Below which value a share of the symmetric beta law lies, both in [0, 1], float64, of the share's shape."""
    # what is beyond the middle is the mirror image, and below it the series converges
    tail = torch.minimum(share, 1 - share)
    low, high = torch.zeros_like(tail), torch.full_like(tail, 0.5)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        short = _beta_share(middle, shape) < tail
        low, high = middle.where(short, low), high.where(short, middle)
    return torch.where(share < 0.5, low, 1 - low)


def _beta_share(value: Tensor, shape: float) -> Tensor:
    """The incomplete beta function of two equal shapes, over the whole one, for values up to 1/2."""
    # the integral of t^(a-1) (1 - t)^(a-1), the second factor as its binomial series
    total, factor = torch.zeros_like(value), 1.0
    for power in range(TERMS):
        total = total + factor * value**power / (shape + power)
        factor *= (1 - shape + power) / (power + 1)
    return value**shape * total * math.gamma(2 * shape) / math.gamma(shape) ** 2

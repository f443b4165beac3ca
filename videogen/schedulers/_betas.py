"""How much a chain's training steps leave of the signal: from the published curves of betas to alpha squared."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

BetaSchedule = Literal["linear", "scaled_linear", "cosine", "sigmoid"]


def alpha_bars(number: int, schedule: BetaSchedule, start: float, end: float) -> Tensor:
    """alpha_t^2 for t = 0 … number - 1: the running product of 1 - beta, (number,) float64."""
    match schedule:
        case "linear":
            betas = torch.linspace(start, end, number, dtype=torch.float64)
        case "scaled_linear":
            betas = torch.linspace(start**0.5, end**0.5, number, dtype=torch.float64).square()
        case "cosine":
            time = torch.arange(number + 1, dtype=torch.float64) / number
            curve = ((time + 0.008) / 1.008 * math.pi / 2).cos().square()
            betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
        case "sigmoid":
            betas = start + (end - start) * torch.linspace(-6, 6, number, dtype=torch.float64).sigmoid()
    return (1 - betas).cumprod(0)


def without_terminal_signal(bars: Tensor, left: float) -> Tensor:
    """alpha_t^2 shifted and scaled so that the first stays and the last is 0 (arXiv 2305.08891, algorithm 1).

    Args:
        left: what the last is then set to.
    """
    alphas = bars.sqrt()
    bars = ((alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))).square()
    return torch.cat([bars[:-1], bars.new_full((1,), left)])

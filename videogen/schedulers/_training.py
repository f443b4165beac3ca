"""What training shares: how times are drawn, and the weight that caps the signal-to-noise ratio."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import dataclasses
import math
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from videogen.schedulers import Prediction
from videogen.schedulers._shared import check_choice

TimeSampling = Literal["uniform", "logit_normal", "mode"]
# beyond it the density of `mode` folds over (arXiv 2403.03206, eq. 20)
HIGHEST_MODE = 2 / (math.pi - 2)


@dataclasses.dataclass(kw_only=True, eq=False)
class TimeDraw:
    """How training times are drawn, as places from 0 (data) to 1 (noise) of a schedule, and min-SNR weights.

    Args:
        sampling: how training times are drawn: uniform, as the sigmoid of a normal variable (Esser et al., arXiv
            2403.03206, eq. 19), or with a mode, heavier in the middle or at the ends (eq. 20).
        sampling_mean: of that normal variable; positive means noisier.
        sampling_std: of that normal variable.
        mode_scale: -1 to 1.75 of sampling=mode: positive favours the middle, negative the ends, 0 is uniform.
        min_snr_gamma: caps the signal-to-noise ratio that weighs the loss, see `min_snr_weight`; 0 is no such weight.

    Raises:
        ValueError: a knob out of range.
    """

    sampling: TimeSampling = "uniform"
    sampling_mean: float = 0.0
    sampling_std: float = 1.0
    mode_scale: float = 1.29
    min_snr_gamma: float = 0.0

    def __post_init__(self) -> None:
        check_choice("sampling", self.sampling, get_args(TimeSampling))
        if not self.sampling_std > 0:
            raise ValueError(f"sampling_std={self.sampling_std} must be positive: 1 is neutral")
        if not -1 <= self.mode_scale <= HIGHEST_MODE:
            raise ValueError(f"mode_scale={self.mode_scale} lies outside [-1, {HIGHEST_MODE:.4f}]: 0 is uniform")
        if self.min_snr_gamma < 0:
            raise ValueError(f"min_snr_gamma={self.min_snr_gamma}: at least 0, usually 5; 0 switches it off")

    def draw_places(self, batch: int, generator: Generator | None = None) -> Tensor:
        """Places (batch,) from 0 to 1, float64, on the generator's device."""
        device = generator.device if generator is not None else None
        if self.sampling == "logit_normal":
            normal = torch.randn(batch, generator=generator, device=device, dtype=torch.float64)
            return torch.sigmoid(self.sampling_mean + self.sampling_std * normal)
        uniform = torch.rand(batch, generator=generator, device=device, dtype=torch.float64)
        if self.sampling == "uniform":
            return uniform
        bend = (uniform * math.pi / 2).cos().square() - 1 + uniform
        return 1 - uniform - self.mode_scale * bend


def min_snr_weight(prediction: Prediction, alpha: Tensor, sigma: Tensor, gamma: float) -> Tensor:
    """The weight that makes a prediction's squared error that of x0 times min(SNR, gamma), SNR = alpha^2 / sigma^2.

    Hang et al., arXiv 2303.09556, section 3.4: min(SNR, gamma) for x0, and this over SNR for epsilon, over
    (alpha^2 + sigma^2)^2 / sigma^2 for v, over (alpha + sigma)^2 / sigma^2 for flow.

    Args:
        alpha: of any shape, float64.
        sigma: of the same shape.
    """
    # with both ratios in the minimum no weight is 0 / 0 where alpha or sigma is 0
    match prediction:
        case "x0":
            return torch.minimum((alpha / sigma).square(), torch.full_like(alpha, gamma))
        case "epsilon":
            return torch.minimum(torch.ones_like(alpha), gamma * (sigma / alpha).square())
    capped = torch.minimum(alpha.square(), gamma * sigma.square())
    scale = alpha.square() + sigma.square() if prediction in ("v", "v_neg") else alpha + sigma
    return capped / scale.square()

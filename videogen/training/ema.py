"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """A slowly following copy of a module's weights; early on it follows faster, so that it forgets the random start.

    Args:
        decay: the share of the old average that stays at each update, once warmed up.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {
            name: value.detach().float().clone() if value.is_floating_point() else value.clone()
            for name, value in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards the module's weights, and copy its whole numbers; `step` counts from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = module.state_dict()
        floating = [name for name in self.average if state[name].is_floating_point()]
        for name in self.average.keys() - floating:
            self.average[name].copy_(state[name])
        torch._foreach_lerp_(
            [self.average[name] for name in floating], [state[name].float() for name in floating], 1.0 - decay
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.average

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from saved averages."""
        for name, value in state.items():
            self.average[name].copy_(value)

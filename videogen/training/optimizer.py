"""AdamW over the weights of some modules, with a state that goes to disk by the weights' names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# what AdamW keeps for each weight
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimizer:
    """AdamW (arXiv 1711.05101) with the gradient's norm clipped; only matrices decay.

    Args:
        modules: their weights that have gradients are trained.
        betas: decay of the running mean of the gradient, and of its square.
        weight_decay: of matrices.
        gradient_clip: largest gradient norm, over all weights.
    """

    def __init__(
        self, modules: nn.Module, *, betas: tuple[float, float], weight_decay: float, gradient_clip: float
    ) -> None:
        self.named = {name: p for name, p in modules.named_parameters() if p.requires_grad}
        self.gradient_clip = gradient_clip
        weights = list(self.named.values())
        self.adamw = torch.optim.AdamW(
            [
                {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
                {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
            ],
            betas=betas,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self.adamw.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Move the weights that have a gradient, at this learning rate."""
        for group in self.adamw.param_groups:
            group["lr"] = rate
        nn.utils.clip_grad_norm_(self.named.values(), self.gradient_clip)
        self.adamw.step()

    def state_dict(self) -> dict[str, Tensor]:
        """`moment.weight` -> tensor, of the weights that have moved."""
        kept = {name: self.adamw.state.get(parameter, {}) for name, parameter in self.named.items()}
        return {f"{key}.{name}": value for name, moments in kept.items() for key, value in moments.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state; a weight that isn't in it has not moved yet."""
        for name, parameter in self.named.items():
            if f"step.{name}" in state:
                self.adamw.state[parameter] = {key: state[f"{key}.{name}"].to(parameter.device) for key in MOMENTS}

"""Layers on the pooled vector that a text encoder gives."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.kernels import Attention


class OfVector(nn.Sequential):
    """Layers in a row on `condition.pooled`, (B, D_pooled) -> (B, D)."""

    conditions: ClassVar[frozenset[str]] = frozenset({"pooled"})

    def forward(self, condition: Condition, kernel: Attention) -> Float[Tensor, "b d"] | None:  # type: ignore[override]
        """(B, D), or None of a text without a pooled vector."""
        if condition.pooled is None:
            return None
        out: Tensor = super().forward(condition.pooled)  # type: ignore[no-untyped-call]
        return out

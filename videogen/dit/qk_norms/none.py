"""Queries and keys as they are."""

from __future__ import annotations

from torch import nn

from videogen.dit.qk_norms import QK_NORMS


@QK_NORMS.register("none")
class NoNorm(nn.Identity):
    """No norm, for ablations and for models that have none."""

    def __init__(self, num_heads: int, head_dim: int) -> None:
        super().__init__()

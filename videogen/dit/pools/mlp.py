"""An MLP on the encoder's pooled vector, as MM-DiTs have it."""

from __future__ import annotations

from torch import nn

from videogen.dit.initial import linear
from videogen.dit.pools import POOLS
from videogen.dit.pools._vector import OfVector


@POOLS.register("mlp")
class MLPPool(OfVector):
    """Two linear layers around a SiLU on the pooled vector: HunyuanVideo, Open-Sora 2.0, Open-Sora-Plan 1.5.

    MM-DiT, https://arxiv.org/abs/2403.03206, figure 2a.

    Args:
        text_dim: width of the text tokens.
        pooled_dim: width of the pooled vector, such as CLIP's.
        dim: width of the embedded timestep.
    """

    def __init__(self, text_dim: int, pooled_dim: int, dim: int) -> None:
        super().__init__(linear(pooled_dim, dim), nn.SiLU(), linear(dim, dim))

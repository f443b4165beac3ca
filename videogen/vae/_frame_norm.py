"""Group normalisation of each frame alone."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from videogen.vae._levels import GroupNorm


class FrameNorm(GroupNorm):
    """Group normalisation over the positions of each frame, so that chunks normalise as the whole clip does.

    Args:
        eps: added to the variance.
    """

    def __init__(self, channels: int, groups: int, eps: float = 1e-6) -> None:
        super().__init__(channels, groups)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        images = rearrange(x, "b c t h w -> (b t) c h w")
        normed = F.group_norm(images, self.num_groups, self.weight, self.bias, self.eps)
        return rearrange(normed, "(b t) c h w -> b c t h w", b=x.shape[0])

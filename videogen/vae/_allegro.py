"""Layers of Allegro's autoencoder that see along time; all take (B, C, T, H, W) and ignore a stream cache."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from videogen.vae._levels import GroupNorm
from videogen.vae._streaming import StreamCache

Frames = Literal["same", "half", "double"]


class TimeBlock(nn.Module):
    """Four times norm, SiLU and a convolution along time, plus the input; the first may halve or double the frames.

    After the temporal layers of ModelScope (arXiv 2308.06571). Where the number of frames changes, the convolutions see
    neighbours in space too.
    """

    def __init__(self, channels: int, groups: int, frames: Frames = "same") -> None:
        super().__init__()
        self.frames, space = frames, 1 if frames == "same" else 3
        kernel = {"same": 3, "half": 2, "double": 1}[frames]
        widened = 2 * channels if frames == "double" else channels
        first = TimeStage(channels, widened, groups, (kernel, space, space), stride=2 if frames == "half" else 1)
        rest = [TimeStage(channels, channels, groups, (3, space, space)) for _ in range(3)]
        self.stages = nn.ModuleList([first, *rest])
        # the block starts as the identity, or as a plain change of the frame rate
        nn.init.zeros_(rest[-1].conv.weight)

    def forward(self, x: Tensor, cache: StreamCache | None = None) -> Tensor:
        first, *rest = self.stages
        skip: Tensor = x
        h: Tensor = first(x)
        if self.frames == "half":
            skip = x[:, :, ::2]
        elif self.frames == "double":
            skip = x.repeat_interleave(2, dim=2)
            h = rearrange(h, "b (two c) t h w -> b c (t two) h w", two=2)
        for stage in rest:
            h = stage(h)
        return skip + h


class TimeStage(nn.Module):
    """Norm, SiLU, convolution; before a convolution of 3 frames the first and the last frame are repeated."""

    def __init__(
        self, channels_in: int, channels_out: int, groups: int, kernel: tuple[int, int, int], stride: int = 1
    ) -> None:
        super().__init__()
        self.norm = GroupNorm(channels_in, groups)
        self.norm.eps = 1e-5
        padding = (0, kernel[1] // 2, kernel[2] // 2)
        self.conv, self.edge = nn.Conv3d(channels_in, channels_out, kernel, (stride, 1, 1), padding), kernel[0] // 3

    def forward(self, x: Tensor) -> Tensor:
        # repeated before the norm, which so counts those frames twice
        x = F.pad(x, (0, 0, 0, 0, self.edge, self.edge), mode="replicate")
        out: Tensor = self.conv(F.silu(self.norm(x)))
        return out


class TimeMix(nn.Conv3d):
    """A convolution of three frames at each position, plus the input; zeros lie beyond a clip."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)

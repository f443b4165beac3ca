"""What the U-Net is made of beside attention: residual blocks within a frame, convolutions along time, sampling."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

#: of the normalisation before convolutions; before attention it is smaller
EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class UNetCondition:
    """What the U-Net hands to each of its cells.

    Args:
        frames: T, the number of frames of a clip; features are (B * T, C, H, W), the frames of a clip in a row.
        time: embedded timestep and frames a second, for all frames (B, 1, D) or one a frame (B, T, D).
        text: text tokens (B, L, D_text).
        text_mask: (B, L) bool, True for words; None where all are.
        image: image tokens, for all frames (B, L_image, D_text) or each frame's own (B * T, L_image / T, D_text).
    """

    frames: int
    time: Tensor
    text: Tensor
    text_mask: Tensor | None = None
    image: Tensor | None = None


class ResBlock(nn.Module):
    """Two convolutions of each frame, with the time added between them, and a shortcut.

    https://arxiv.org/abs/2105.05233, appendix A.

    Args:
        time_dim: width of the embedded time.
        groups: of the normalisation over each frame.
        dropout: before the last convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, time_dim: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=EPS)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time = nn.Linear(time_dim, channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Float[Tensor, "bt c h w"], condition: UNetCondition) -> Float[Tensor, "bt c_out h w"]:
        """(B * T, C, H, W) -> (B * T, C_out, H, W)."""
        time = self.time(F.silu(condition.time))
        # one time for all frames of a clip, or one each
        each = condition.frames // time.shape[1]
        h = self.conv1(F.silu(self.norm1(x))) + repeat(time, "b f c -> (b f each) c 1 1", each=each)
        out: Tensor = self.shortcut(x) + self.out(self.dropout(F.silu(self.norm2(h))))
        return out


class TimeConv(nn.Module):
    """Four convolutions along time, normalised over the clip, plus the input, https://arxiv.org/abs/2308.06571.

    Args:
        groups: of the normalisation over the whole clip.
        dropout: before every convolution but the first.
    """

    def __init__(self, channels: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(groups, channels, eps=EPS),
                nn.SiLU(),
                nn.Dropout(dropout if index else 0.0),
                nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0)),
            )
            for index in range(4)
        )

    @property
    def out(self) -> nn.Module:
        """The last convolution."""
        last: nn.Sequential = self.layers[-1]  # type: ignore[assignment]
        return last[-1]

    def forward(self, x: Float[Tensor, "bt c h w"], condition: UNetCondition) -> Float[Tensor, "bt c h w"]:
        """(B * T, C, H, W) -> (B * T, C, H, W)."""
        h = rearrange(x, "(b t) c h w -> b c t h w", t=condition.frames)
        for layer in self.layers:
            h = layer(h)
        return x + rearrange(h, "b c t h w -> (b t) c h w")


class Downsample(nn.Conv2d):
    """A convolution with stride 2: half the height and width, rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    # a size that isn't twice this one belongs to a level whose size was odd
    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b c h w"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h_out w_out"]:
        """(B, C, H, W) -> (B, C, *size), where size is the one that `Downsample` came from."""
        return super().forward(F.interpolate(x, size=size, mode="nearest"))

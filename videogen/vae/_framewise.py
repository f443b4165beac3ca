"""The two halves of Stable Diffusion's image autoencoder, and how a video goes through them frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from einops import rearrange
from torch import Tensor, nn

from videogen.vae._layers import FrameConv, Norm, SpaceUpsample, Stack
from videogen.vae._lean import few_at_a_time, silu
from videogen.vae._levels import SpaceDownsample, middle, res_blocks


class FrameEncoder(nn.Module):
    """Frames (N, 3, 1, H, W) -> moments (N, 2C, 1, H/8, W/8)."""

    def __init__(
        self, latent: int, widths: Sequence[int], blocks: int, norm: Norm, *, attention: bool = True, quant: bool = True
    ) -> None:
        super().__init__()
        self.conv_in = FrameConv(3, widths[0], 3, padding=1)
        levels = res_blocks(widths[0], widths[0], blocks, norm, frames_alone=True)
        for source, width in pairwise(widths):
            levels += [SpaceDownsample(source), *res_blocks(source, width, blocks, norm, frames_alone=True)]
        self.levels = Stack(*levels)
        self.middle = middle(widths[-1], norm, attention=attention, frames_alone=True)
        self.norm, self.out = norm(widths[-1]), FrameConv(widths[-1], 2 * latent, 3, padding=1)
        self.quant = FrameConv(2 * latent, 2 * latent, 1) if quant else nn.Identity()

    def forward(self, frames: Tensor) -> Tensor:
        h = self.middle(self.levels(self.conv_in(frames)))
        moments: Tensor = self.quant(self.out(silu(self.norm(h))))
        return moments


class FrameDecoder(nn.Module):
    """Latents (N, C, 1, H/8, W/8) -> frames (N, 3, 1, H, W)."""

    def __init__(
        self, latent: int, widths: Sequence[int], blocks: int, norm: Norm, *, attention: bool = True, quant: bool = True
    ) -> None:
        super().__init__()
        self.quant = FrameConv(latent, latent, 1) if quant else nn.Identity()
        self.conv_in = FrameConv(latent, widths[-1], 3, padding=1)
        self.middle = middle(widths[-1], norm, attention=attention, frames_alone=True)
        levels = res_blocks(widths[-1], widths[-1], blocks, norm, frames_alone=True)
        for source, width in pairwise(reversed(widths)):
            levels += [SpaceUpsample(source), *res_blocks(source, width, blocks, norm, frames_alone=True)]
        self.levels = Stack(*levels)
        self.norm, self.out = norm(widths[0]), FrameConv(widths[0], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.levels(self.middle(self.conv_in(self.quant(latents))))
        frames: Tensor = self.out(silu(self.norm(h)))
        return frames


def frame_by_frame(half: nn.Module, x: Tensor, stride: int = 1) -> Tensor:
    """Run one half on each frame as a clip of its own, (B, C, T, H, W) -> (B, C', T, H', W').

    Args:
        stride: pixels of the video along each side of a position of x.
    """
    # a batch of one-frame clips: its group norms see one frame, and the video layers serve as they are
    out = few_at_a_time(half, rearrange(x, "b c t h w -> (b t) c 1 h w"), x[0, 0, 0].numel() * stride**2)
    return rearrange(out, "(b t) c 1 h w -> b c t h w", b=x.shape[0])

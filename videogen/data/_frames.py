"""What video reading and writing share: their error, and pixels between bytes and [-1, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from av.error import FFmpegError
from torch import Tensor

#: pixels as bytes, (H, W, 3) or (T, H, W, 3)
Pixels = npt.NDArray[np.uint8]

# FFmpeg's SWS_BICUBIC, SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP and SWS_ACCURATE_RND, which PyAV names only from 18 on:
# chroma at full resolution and exact rounding, where the defaults are a level or two off
ACCURATE = 0x4 | 0x2000 | 0x4000 | 0x40000


class VideoError(ValueError):
    """A file that can't be read or written as video, or a tensor that is no video."""


def is_hd(height: int, width: int) -> bool:
    """Whether players take a file of this size that doesn't say for BT.709; smaller ones are BT.601 to them."""
    return width >= 1280 or height > 576


def reason(error: OSError | FFmpegError) -> str:
    """What went wrong, without the number and the path that an error's text repeats."""
    return str(error.strerror or error)


def to_float(pixels: Tensor) -> Tensor:
    """Bytes (any shape) -> float32 in [-1, 1]."""
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)


def to_pixels(video: Tensor) -> Pixels:
    """Video (3, T, H, W) in [-1, 1] -> bytes (T, H, W, 3); values beyond the range are clamped."""
    levels = video.detach().float().clamp(-1.0, 1.0).add(1.0).mul(127.5).round()
    pixels: npt.NDArray[Any] = levels.to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return pixels


def check_video(video: Tensor, start: int = 0) -> None:
    """Refuse what is no video (3, T, H, W) of finite floats.

    Args:
        video: to be checked.
        start: how many frames of the clip came before, for the message.

    Raises:
        VideoError: wrong shape, no pixels, integers, NaN or infinite values; the first bad frame is named.
    """
    shape = tuple(video.shape)
    if video.ndim != 4 or shape[0] != 3:
        remedy = "pass one clip of the batch, like video[0]" if video.ndim == 5 else "permute it"
        raise VideoError(f"a video is (3, T, H, W) and this tensor is {shape}: {remedy}")
    if 0 in shape:
        raise VideoError(f"a video of shape {shape} holds no pixels: give at least one frame")
    if not video.is_floating_point():
        raise VideoError(f"a video is of floats in [-1, 1] and this tensor is {video.dtype}: use x / 127.5 - 1")
    bad = ~torch.isfinite(video).transpose(0, 1).flatten(1)  # (T, 3 * H * W)
    if bad.any():
        frame = start + int(bad.any(dim=1).nonzero()[0])
        kind = "NaN" if video.isnan().any() else "infinite"
        raise VideoError(
            f"{int(bad.sum())} of {video.numel()} values are {kind}, the first in frame {frame}: "
            "the model overflowed or its weights are damaged; try float32"
        )

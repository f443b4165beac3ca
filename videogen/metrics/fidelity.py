"""How near a video is to its original: PSNR and SSIM, of whole clips or of clips that come in chunks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

#: side in pixels of SSIM's window, and so of the smallest frame that it can measure
WINDOW = 11
_SIGMA = 1.5  # of the Gaussian in the window, in pixels
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def psnr(
    a: Float[Tensor, "*batch 3 t h w"], b: Float[Tensor, "*batch 3 t h w"], *, per_frame: bool = False
) -> Float[Tensor, ...]:
    """Peak signal-to-noise ratio in dB of videos in [-1, 1]: 10 log10(2² / mean squared error), infinite when equal.

    (*, 3, T, H, W) twice -> (*), from the error of the whole clip; or (*, T) with `per_frame`.

    Raises:
        ValueError: other shapes, or two of them.
    """
    error = _squared_error(a, b)
    return _decibel(error if per_frame else error.mean(dim=-1))


def ssim(
    a: Float[Tensor, "*batch 3 t h w"], b: Float[Tensor, "*batch 3 t h w"], *, per_frame: bool = False
) -> Float[Tensor, ...]:
    """Structural similarity of videos in [-1, 1], at most 1 (Wang et al. 2004, doi 10.1109/TIP.2003.819861).

    As in the paper: values from 0 to 1, an 11x11 Gaussian window with sigma 1.5 and only where it fits whole,
    K1 = 0.01, K2 = 0.03. Each colour channel on its own, then the mean over channels and positions.

    (*, 3, T, H, W) twice -> (*), the mean over frames; or (*, T) with `per_frame`.

    Raises:
        ValueError: other shapes, or two of them, or frames smaller than the window.
    """
    _check(a, b)
    if min(a.shape[-2:]) < WINDOW:
        raise ValueError(f"frames of {a.shape[-1]}x{a.shape[-2]} are smaller than SSIM's window: use {WINDOW} or more")
    frames = [_ssim(x, y) for x, y in zip(a.unbind(-3), b.unbind(-3), strict=True)]
    every = torch.stack(frames, dim=-1)
    return every if per_frame else every.mean(dim=-1)


class Fidelity:
    """PSNR and SSIM of one video in [-1, 1] that comes in chunks of any lengths, the same as those of the whole clip.

    All frames have one size, so the squared error of the clip is the mean of its frames' squared errors, and PSNR the
    logarithm of that mean (the mean of the frames' decibels would be another figure). SSIM is the mean of its frames'
    already. So two sums and a count are all that is kept, in float64; what differs from `psnr` and `ssim` is only the
    order of the sums, in the last digits.

    Attributes:
        num_frames: that have been added.
    """

    def __init__(self) -> None:
        self.num_frames = 0
        self._error = self._similarity = 0.0
        self._size: tuple[int, int] | None = None

    def add(self, a: Float[Tensor, "3 t h w"], b: Float[Tensor, "3 t h w"]) -> None:
        """Count the next frames of both videos in.

        Raises:
            ValueError: as `ssim`, or frames of another size than before.
        """
        similarity, error = ssim(a, b, per_frame=True), _squared_error(a, b)
        size = (a.shape[-2], a.shape[-1])
        if self._size not in (None, size):
            raise ValueError(f"frames of {size} can't follow frames of {self._size}: one video has one size")
        self._size = size
        self.num_frames += a.shape[-3]
        self._error += error.sum().item()
        self._similarity += similarity.sum().item()

    def psnr(self) -> float:
        """In dB, infinite when the videos are equal. Raises ValueError before the first frame."""
        return _decibel(torch.tensor(self._mean(self._error), dtype=torch.float64)).item()

    def ssim(self) -> float:
        """At most 1. Raises ValueError before the first frame."""
        return self._mean(self._similarity)

    def _mean(self, total: float) -> float:
        if not self.num_frames:
            raise ValueError("no frames have been compared, so there is no figure: add some first")
        return total / self.num_frames


def _squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of each frame, (*, 3, T, H, W) twice -> (*, T)."""
    _check(a, b)
    # float64: the error of a good reconstruction is a small mean of many small numbers
    return (a.double() - b.double()).square().mean(dim=(-4, -2, -1))


def _decibel(error: Tensor) -> Tensor:
    """Mean squared error of values in [-1, 1], whose peak is 2 -> PSNR."""
    return 10 * torch.log10(4 / error)


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """One frame of each, (*, 3, H, W) twice -> (*); a frame at a time, so that memory doesn't grow with length."""
    x, y = ((frame.double() + 1) / 2 for frame in (a, b))
    mean_x, mean_y, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * cov + _C2) / (var_x + var_y + _C2)
    similarity: Tensor = (luminance * structure).mean(dim=(-3, -2, -1))
    return similarity


def _blur(x: Tensor) -> Tensor:
    """Weighted means under the window, (*, H, W) -> (*, H - 10, W - 10); a direction at a time."""
    offsets = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - (WINDOW - 1) / 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    flat = x.reshape(-1, 1, *x.shape[-2:])
    flat = F.conv2d(F.conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return flat.view(*x.shape[:-2], *flat.shape[-2:])


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"videos of {tuple(a.shape)} and {tuple(b.shape)} can't be compared: crop to one shape")
    if a.ndim < 4 or a.shape[-4] != 3 or not math.prod(a.shape):
        raise ValueError(f"a video is (3, T, H, W), maybe in batches, and this tensor is {tuple(a.shape)}: permute it")

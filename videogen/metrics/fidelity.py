"""How near a video is to its original: PSNR and SSIM."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_WINDOW, _SIGMA = 11, 1.5  # of the Gaussian window, in pixels
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def psnr(
    a: Float[Tensor, "*batch 3 t h w"], b: Float[Tensor, "*batch 3 t h w"], *, per_frame: bool = False
) -> Float[Tensor, ...]:
    """Peak signal-to-noise ratio in dB of videos in [-1, 1]: 10 log10(2² / mean squared error), infinite when equal.

    (*, 3, T, H, W) twice -> (*), from the error of the whole clip; or (*, T) with `per_frame`.

    Raises:
        ValueError: other shapes, or two of them.
    """
    _check(a, b)
    # float64: the error of a good reconstruction is a small mean of many small numbers
    error = (a.double() - b.double()).square().mean(dim=(-4, -2, -1))
    return 10 * torch.log10(4 / (error if per_frame else error.mean(dim=-1)))


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
    if min(a.shape[-2:]) < _WINDOW:
        raise ValueError(f"frames of {a.shape[-1]}x{a.shape[-2]} are smaller than SSIM's window: use {_WINDOW} or more")
    frames = [_ssim(x, y) for x, y in zip(a.unbind(-3), b.unbind(-3), strict=True)]
    every = torch.stack(frames, dim=-1)
    return every if per_frame else every.mean(dim=-1)


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
    offsets = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - (_WINDOW - 1) / 2
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

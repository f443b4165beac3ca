"""From frames of a film to what a CLIP tower sees: a small square of normalised colours."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Resize = Literal["crop", "stretch", "blur"]
# mean and standard deviation of red, green and blue in [0, 1], https://arxiv.org/abs/2103.00020
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(images: Float[Tensor, "b 3 h w"], size: int, resize: Resize) -> Float[Tensor, "b 3 s s"]:
    """Images in [-1, 1] -> squares of `size`, each colour of CLIP's mean and standard deviation.

    Args:
        size: in pixels.
        resize: bicubic, in one of the ways that models were trained with: "crop" keeps the aspect and cuts the longer
            side, averaging where it shrinks (transformers' processor); "stretch" averages nothing (Wan's own code);
            "blur" stretches between the centres of the outer pixels, after a Gaussian of half the pixels that become
            one (VideoCrafter's, by kornia).
    """
    match resize:
        case "crop":
            square = _crop(images, size)
        case "stretch":
            square = F.interpolate(images, (size, size), mode="bicubic")
        case "blur":
            square = _blurred(images, size)
    mean, std = (square.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((square + 1) / 2 - mean) / std


def _crop(images: Tensor, size: int) -> Tensor:
    height, width = images.shape[2:]
    # the longer side is rounded down, as there
    sides = [int(size * side / min(height, width)) for side in (height, width)]
    resized = F.interpolate(images, sides, mode="bicubic", antialias=True)
    # bicubic weights overshoot at edges, and the bytes of a picture can't
    top, left = ((side - size) // 2 for side in sides)
    return resized[:, :, top : top + size, left : left + size].clamp(-1, 1)


def _blurred(images: Tensor, size: int) -> Tensor:
    if images.shape[2:] == (size, size):
        return images
    factors = [side / size for side in images.shape[2:]]
    if max(factors) > 1:
        for axis, factor in zip((2, 3), factors, strict=True):
            images = _gaussian(images, axis, max((factor - 1) / 2, 0.001))
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=True)


def _gaussian(images: Tensor, axis: int, sigma: float) -> Tensor:
    """Convolve along one axis with a Gaussian cut off at two sigmas, edges mirrored."""
    half = math.floor(max(4 * sigma, 3)) // 2
    places = torch.arange(-half, half + 1, device=images.device, dtype=images.dtype)
    weights = torch.softmax(-places.square() / (2 * sigma**2), dim=0)
    channels = images.shape[1]
    along = [1, 1]
    along[axis - 2] = len(weights)
    padding = (0, 0, half, half) if axis == 2 else (half, half, 0, 0)
    padded = F.pad(images, padding, mode="reflect")
    return F.conv2d(padded, weights.view(1, 1, *along).expand(channels, -1, -1, -1), groups=channels)

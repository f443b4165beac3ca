"""Which pixels of a video belong to which coloured object: no learning, only distances to known colours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.shapes import BACKGROUND_RGB, COLOUR_RGB, COLOURS, RADII, UNIT

# a pixel is an object's when it covers at least half of it and the colour is no further off than this (RGB in [0, 1])
COVERED = 0.5
OFF_COLOUR = 0.4
# what is smaller than this share of the smallest shape (a small triangle, 1.5 r²) is a speck or a ghost
SPECK = 0.35
# an object is there when it is seen in this share of the frames
PRESENT = 0.75


class Blob(NamedTuple):
    """One object as pixels.

    Args:
        mask: (T, H, W) how much of each pixel it covers.
        seen: (T,) the frames it is seen in.
        extra: how many more objects have its colour, 0 or 1.
    """

    colour: str
    mask: Tensor
    seen: Tensor
    extra: int


def as_pixels(video: Tensor) -> Tensor:
    """A video (3, T, H, W) in [-1, 1] as float32 in [0, 1].

    Raises:
        ValueError: another number of dimensions or channels, or values that are not finite.
    """
    if video.ndim != 4 or video.shape[0] != 3 or 0 in video.shape:
        raise ValueError(f"a video of shape {tuple(video.shape)} can't be read: give one clip as (3, T, H, W)")
    if not video.isfinite().all():
        raise ValueError("the video holds NaN or infinity: check the sampler and the decoder's dtype")
    return (video.detach().float().cpu().clamp(-1, 1) + 1) / 2


def background(pixels: Tensor) -> tuple[str, Tensor]:
    """The nearest background's name and the colour (3,) that the video (3, T, H, W) in [0, 1] really has there."""
    measured = pixels.flatten(1).median(dim=1).values
    palette = torch.tensor(list(BACKGROUND_RGB.values()))
    return list(BACKGROUND_RGB)[int((palette - measured).norm(dim=1).argmin())], measured


def blobs(pixels: Tensor, ground: Tensor) -> list[Blob]:
    """The objects of a video (3, T, H, W) in [0, 1] over the background colour (3,), in the palette's order.

    A pixel is modelled as a blend of background and one palette colour; the colour with the smallest remainder owns it.
    """
    _, num_frames, height, width = pixels.shape
    delta = (pixels - ground[:, None, None, None]).flatten(1)
    paint = torch.tensor([COLOUR_RGB[name] for name in COLOURS]) - ground
    along = paint @ delta / paint.square().sum(dim=1, keepdim=True)
    alpha = along.clamp(0, 1)
    # |delta - alpha paint|², without a (colours, 3, pixels) array
    remainder = delta.square().sum(dim=0) + alpha * (alpha - 2 * along) * paint.square().sum(dim=1, keepdim=True)
    off, owner = remainder.min(dim=0)
    covered = alpha.gather(0, owner[None])[0]
    owner = owner.masked_fill((covered < COVERED) | (off > OFF_COLOUR**2), -1)

    speck = SPECK * 1.5 * (RADII["small"] * min(height, width) / UNIT) ** 2
    present = [i for i in range(len(COLOURS)) if (owner == i).sum() >= speck * PRESENT * num_frames]
    if not present:
        return []
    masks = torch.stack([owner == i for i in present]).view(-1, height, width)
    largest, first, second = (part.view(len(present), num_frames, *part.shape[1:]) for part in two_largest(masks))
    found = []
    for i, core, area, next_area in zip(present, largest, first, second, strict=True):
        seen = area >= speck
        if seen.float().mean() >= PRESENT:
            free = ((owner == i) | (owner == -1)).view(num_frames, height, width)
            extra = int((next_area >= speck).float().mean() > 0.5)
            found.append(Blob(COLOURS[i], _soft_mask(delta, alpha[i], core, free), seen, extra))
    return found


def _soft_mask(delta: Tensor, alpha: Tensor, core: Tensor, free: Tensor) -> Tensor:
    """Coverage (T, H, W) measured with the object's own colour, near its core and where no other colour claims."""
    inside = core.flatten()
    solid = inside & (alpha >= alpha[inside].median())
    paint = delta[:, solid].mean(dim=1)
    coverage = (paint @ delta / paint.square().sum()).clamp(0, 1).view_as(core)
    near = F.max_pool2d(core[:, None].float(), 5, 1, 2)[:, 0] > 0
    return coverage * (near & free)


def two_largest(masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, H, W) bool, not all empty -> each mask's largest 8-connected part, its area (N,) and the next one's (N,)."""
    rows, columns = (torch.nonzero(masks.any(dim=0).any(dim=1 - axis))[:, 0] for axis in (0, 1))
    # outside the box around all of them there is nothing to look at
    box = np.s_[:, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    labels = _components(masks[box])
    flat = masks[box].flatten(1)
    areas = torch.zeros(len(masks), labels.shape[1] + 1).scatter_add_(1, labels, flat.float())
    top = areas.topk(2, dim=1)
    largest = torch.zeros_like(masks)
    largest[box] = ((labels == top.indices[:, :1]) & flat).view_as(masks[box])
    return largest, top.values[:, 0], top.values[:, 1]


def _components(masks: Tensor) -> Tensor:
    """(N, H, W) bool -> labels (N, H * W): 0 outside, else 1 + the highest pixel index of the part."""
    flat = masks.flatten(1)
    labels = torch.arange(1, flat.shape[1] + 1) * flat
    while True:
        # float32 holds every index of a frame of up to 2²⁴ pixels
        spread = F.max_pool2d(labels.view_as(masks)[:, None].float(), 3, 1, 1).flatten(1).long() * flat
        # a label is a pixel of the same part, so that pixel's label serves too: this halves the way at every turn
        spread = spread.gather(1, (spread - 1).clamp(min=0)) * flat
        if torch.equal(spread, labels):
            return labels
        labels = spread

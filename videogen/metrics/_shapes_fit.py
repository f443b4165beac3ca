"""What a soft mask shows: its shape and size by comparison with drawn templates, its motion by a straight line."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data.shapes import PACES, RADII, SHAPES, coverage

# the templates' grid: a cell is 1/64 of the frame's shorter side
REACH = 17
SEARCH_RADII = tuple(np.arange(5.0, 16.1, 0.5).tolist())
SEARCH_OFFSETS = (-0.75, 0.0, 0.75)
# remainder / energy: a blur of sigma 1.2 pixels leaves 0.14, with noise and a weak contrast 0.2
SHAPELESS = 0.25
SMALL = float(np.sqrt(RADII["small"] * RADII["large"]))
SLOW = float(np.sqrt(PACES["slow"] * PACES["fast"]))
STILL = PACES["slow"] / 2
# a path counts as along an axis within about 27 degrees of it
ASLANT = 0.5


def centroids(mask: Tensor) -> Tensor:
    """Soft mask (T, H, W) -> centres of mass (T, 2), x and y in pixels; NaN in an empty frame."""
    _, height, width = mask.shape
    x = (mask.sum(dim=1) * (torch.arange(width) + 0.5)).sum(dim=1)
    y = (mask.sum(dim=2) * (torch.arange(height) + 0.5)).sum(dim=1)
    return torch.stack((x, y), dim=1) / mask.sum(dim=(1, 2))[:, None]


def shape_and_radius(mask: Tensor, centres: Tensor, unit: float) -> tuple[str | None, float]:
    """The shape whose drawing leaves the smallest squared remainder over all frames, and its radius.

    The shape is None when even the nearest drawing leaves too much.

    Args:
        mask: (T, H, W) soft mask of one object.
        centres: (T, 2) its centres of mass in pixels.
        unit: pixels in 1/64 of the shorter side; the radius that comes back is in these units.
    """
    patches = _patches(mask, centres, unit)
    templates, energy = _templates()
    remainder = patches.square().sum(dim=1, keepdim=True) - 2 * patches @ templates.T + energy
    # (T, shapes, radii, offsets): the centre may move from frame to frame, shape and size may not
    remainder = remainder.view(len(patches), len(SHAPES), len(SEARCH_RADII), -1).min(dim=3).values.sum(dim=0)
    best, radius = divmod(int(remainder.argmin()), len(SEARCH_RADII))
    clear = float(remainder.min() / patches.square().sum()) < SHAPELESS
    return (SHAPES[best] if clear else None), SEARCH_RADII[radius]


def _patches(mask: Tensor, centres: Tensor, unit: float) -> Tensor:
    """(T, H, W) -> (T, cells): every frame resampled on the templates' grid around its centre."""
    _, height, width = mask.shape
    cells = torch.arange(-REACH, REACH + 1) * unit
    x = (centres[:, 0, None] + cells) / width * 2 - 1
    y = (centres[:, 1, None] + cells) / height * 2 - 1
    square = (len(mask), len(cells), len(cells))
    grid = torch.stack((x[:, None, :].expand(square), y[:, :, None].expand(square)), dim=3)
    return F.grid_sample(mask[:, None], grid, align_corners=False).flatten(1)


@functools.cache
def _templates() -> tuple[Tensor, Tensor]:
    """Drawings (shapes * radii * offsets, cells) and their energies."""
    cells = np.arange(-REACH, REACH + 1, dtype=np.float32)
    drawn = [
        coverage(shape, cells - np.float32(dx), cells[:, None] - np.float32(dy), radius).ravel()
        for shape, radius, dx, dy in itertools.product(SHAPES, SEARCH_RADII, SEARCH_OFFSETS, SEARCH_OFFSETS)
    ]
    templates = torch.from_numpy(np.stack(drawn))
    return templates, templates.square().sum(dim=1)


def motion(centres: Tensor, seen: Tensor, unit: float) -> tuple[str | None, str | None]:
    """Direction and speed of the least-squares line through the centres (T, 2) of the frames where the object is seen.

    The direction is None when the path is aslant or there is one frame; the speed is None as well when it stays still.
    """
    time = torch.nonzero(seen)[:, 0].double()
    if len(time) < 2:
        return None, None
    time = time - time.mean()
    x, y = ((time @ centres[seen].double()) / time.square().sum() / unit).tolist()
    major, minor = max(abs(x), abs(y)), min(abs(x), abs(y))
    if major < STILL:
        return "still", None
    speed = "slow" if major < SLOW else "fast"
    if minor > ASLANT * major:
        return None, speed
    if abs(x) > abs(y):
        return ("right" if x > 0 else "left"), speed
    return ("down" if y > 0 else "up"), speed

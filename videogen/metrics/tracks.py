"""Where the objects of a video of the shapes world are, frame by frame, and how far that is from where they should be.

Lengths are in 1/64 of the frame's shorter side: pixels of a video of 64x64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.data.shapes import UNIT
from videogen.metrics._shapes_fit import centroids
from videogen.metrics._shapes_segment import as_pixels, background, blobs

#: how far off an object is that isn't there: as far as the frame is wide
ABSENT = float(UNIT)

Path = Float[Tensor, "t 2"]


@torch.no_grad()
def tracks(video: Float[Tensor, "3 t h w"]) -> dict[str, Path]:
    """The centre of each object in every frame, by its colour: x and y, NaN where it isn't seen.

    Raises:
        ValueError: no video, or values that are not finite.
    """
    pixels = as_pixels(video)
    _, ground = background(pixels)
    unit = min(pixels.shape[2:]) / UNIT
    found = {}
    for blob in blobs(pixels, ground):
        centres = centroids(blob.mask).double() / unit
        found[blob.colour] = centres.where(blob.seen[:, None], torch.nan)
    return found


def line(path: Path) -> tuple[Float[Tensor, " 2"], Float[Tensor, " 2"]]:
    """Where the least-squares line through a path is in frame 0, and its velocity a frame; 0 if it is seen once.

    Raises:
        ValueError: the object is seen in no frame.
    """
    seen = path.isfinite().all(1)
    if not seen.any():
        raise ValueError("an object that is seen in no frame has no path")
    time = torch.nonzero(seen)[:, 0].double()
    centred = time - time.mean()
    velocity = centred @ path[seen] / centred.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    return path[seen].mean(0) - velocity * time.mean(), velocity


def continued(path: Path, num_frames: int) -> Path:
    """The straight line through a path, from its first frame on, (num_frames, 2)."""
    start, velocity = line(path)
    return start + torch.arange(num_frames)[:, None].double() * velocity


def distances(path: Path | None, truth: Path) -> Float[Tensor, " t"]:
    """How far off the truth a path is in each frame; `ABSENT` where it, or the object as a whole, isn't there."""
    if path is None:
        return torch.full((len(truth),), ABSENT, dtype=torch.float64)
    off: Tensor = (path - truth).norm(dim=1)
    return off.nan_to_num(ABSENT)

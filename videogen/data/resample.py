"""A film at another frame rate."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from videogen.data._frames import VideoError


def resampled(video: Float[Tensor, "3 t h w"], fps: float, wanted: float) -> Float[Tensor, "3 frames h w"]:
    """As much time at `wanted` frames a second: at each moment the frame that is shown then, left out or repeated.

    Nothing is blended, so that what moves keeps its outline.

    Raises:
        VideoError: a rate that isn't positive.
    """
    if fps <= 0 or wanted <= 0:
        raise VideoError(f"{fps:g} frames a second to {wanted:g}: both must be above 0")
    frames = video.shape[1]
    count = max(1, round(frames * wanted / fps))
    moments = (torch.arange(count, dtype=torch.float64) * fps / wanted + 1e-9).floor().long()
    return video[:, moments.clamp(max=frames - 1)]

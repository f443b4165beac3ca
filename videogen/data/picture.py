"""Pictures as frames of a film: read from a file and brought to the film's size."""

from __future__ import annotations

import os

from jaxtyping import Float
from torch import Tensor

from videogen.data._reading import open_video
from videogen.data._writing import Size
from videogen.data.excerpt import cover


def read_picture(path: str | os.PathLike[str], size: Size) -> tuple[Float[Tensor, "3 height width"], Size]:
    """A picture, or the first frame of a clip, (3, H, W) in [-1, 1], and the size that the file has.

    Args:
        path: of any format that FFmpeg reads; what is transparent counts as opaque.
        size: to `cover`: scaled, and what juts out cut off on both sides.

    Raises:
        VideoError: no such file, no picture in it, or a damaged one.
    """
    with open_video(path) as reader:
        frame = reader.read(max_frames=1)
        return cover(frame, size)[:, 0], Size(reader.height, reader.width)

"""A part of a film at a size of one's own, chunk by chunk: a long film is cut and scaled without lying in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from videogen.data._frames import VideoError, check_video
from videogen.data._reading import VideoReader
from videogen.data._writing import Size


def excerpt(
    reader: VideoReader, *, start: int = 0, max_frames: int | None = None, size: Size | None = None, chunk: int = 16
) -> Iterator[Float[Tensor, "3 t h w"]]:
    """The frames from `start` on, `chunk` at a time, in [-1, 1]; the last chunk may be shorter.

    Args:
        reader: an open file, none of whose frames has been taken yet.
        start: frames to leave out first; they are decoded, which is quick beside all that is done with the others.
        max_frames: the most frames to give; all that there are when None.
        size: height and width to `cover`; that of the file when None.
        chunk: frames in memory at once.

    Raises:
        VideoError: the file ends before `start`, a negative start, counts or sides below 1, a chunk that is larger
            than the reader's `max_pixels` at either size, or a damaged file.
    """
    if start < 0:
        raise VideoError(f"start is frame {start}: the first is 0")
    if size is not None and chunk * size.height * size.width > reader.max_pixels:
        raise VideoError(
            f"{chunk} frames of {size.width}x{size.height} are {chunk * size.height * size.width} pixels and the limit "
            f"is {reader.max_pixels}: take fewer at once (chunk) or a smaller size"
        )
    skipped = sum(1 for _ in islice(reader.frames(), start))
    given = 0
    for frames in reader.chunks(chunk, max_frames=max_frames):
        given += frames.shape[1]
        yield frames if size is None else cover(frames, size)
    if not given:
        raise VideoError(
            f"nothing of {reader.path} is left from frame {start} ({start / reader.fps:g} s) on: "
            f"it has {skipped} frames ({skipped / reader.fps:g} s), start earlier"
        )


def cover(video: Float[Tensor, "3 t h w"], size: Size) -> Float[Tensor, "3 t height width"]:
    """A video in [-1, 1] at another size: scaled until it covers that size, and what juts out cut off on both sides.

    Bicubic and antialiased, each frame on its own, so that chunks give what the whole clip gives. The largest centred
    part of that shape is cut out first and then scaled, which saves work; its sides are whole pixels, so that the two
    directions may be scaled differently by up to half a pixel along the part. A video of that size stays as it is.

    Raises:
        VideoError: no video, or a side below 1.
    """
    check_video(video)
    if min(size) < 1:
        raise VideoError(f"a size of {size.width}x{size.height}: both sides must be 1 or more")
    height, width = video.shape[2:]
    scale = max(size.height / height, size.width / width)
    part = Size(min(height, max(1, round(size.height / scale))), min(width, max(1, round(size.width / scale))))
    top, left = (height - part.height) // 2, (width - part.width) // 2
    video = video[:, :, top : top + part.height, left : left + part.width]
    if part == size:
        return video
    # colours as the batch and time as the channels: both are left alone
    scaled = F.interpolate(video, tuple(size), mode="bicubic", antialias=True, align_corners=False)
    # a cubic overshoots beside an edge
    return scaled.clamp(-1.0, 1.0)

"""Videos to look at: a contact sheet of some frames, and two clips beside each other."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from jaxtyping import Float
from torch import Tensor

from videogen.data._frames import Pixels, VideoError, check_video, reason, to_pixels
from videogen.data._target import check_target, part_of

_GAP = 2  # white pixels between frames
_VISIBLE = 128  # a frame whose shorter side is below this many pixels is enlarged


def contact_sheet(
    video: Float[Tensor, "3 t h w"], path: str | os.PathLike[str], *, columns: int = 4, num_frames: int = 8
) -> None:
    """Write evenly spaced frames, the first and the last among them, as a PNG; small ones enlarged by whole pixels.

    Args:
        video: in [-1, 1].
        path: ends in .png; an existing file is replaced.
        columns: frames a row.
        num_frames: the most frames to show.

    Raises:
        VideoError: no video, the path can't be written, or counts below 1.
    """
    check_video(video)
    check_target(path, ".png")
    if columns < 1 or num_frames < 1:
        raise VideoError(f"a sheet of {num_frames} frames in {columns} columns: both must be 1 or more")
    total, height, width = video.shape[1:]
    chosen = np.linspace(0, total - 1, min(num_frames, total)).round().astype(int)
    factor = max(1, -(-_VISIBLE // min(height, width)))
    frames = to_pixels(video[:, chosen]).repeat(factor, axis=1).repeat(factor, axis=2)
    _write_png(_grid(frames, min(columns, len(frames))), Path(path))


def side_by_side(
    a: Float[Tensor, "3 t h w"], b: Float[Tensor, "3 t h w"], *, separator: int = 4, start: int = 0
) -> Float[Tensor, "3 t h wide"]:
    """Two clips of one shape -> one clip, `a` left of `b`, with a white line of `separator` pixels between them.

    Args:
        a, b: in [-1, 1].
        separator: pixels.
        start: how many frames came before, where the clips are pieces of longer ones; for the messages.

    Raises:
        VideoError: no videos, NaN or infinite values, or two shapes.
    """
    check_video(a, start)
    check_video(b, start)
    if a.shape != b.shape:
        raise VideoError(f"clips of {tuple(a.shape)} and {tuple(b.shape)} don't fit side by side: crop to one shape")
    line = a.new_ones(*a.shape[:3], separator)
    return torch.cat([a, line, b.to(a)], dim=3)


def _grid(frames: Pixels, columns: int) -> Pixels:
    """Frames (N, H, W, 3) -> one white picture with the frames row by row."""
    _, height, width, _ = frames.shape
    rows = -(-len(frames) // columns)
    shape = rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3
    sheet = np.full(shape, 255, np.uint8)
    for i, frame in enumerate(frames):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = frame
    return sheet


def _write_png(picture: Pixels, path: Path) -> None:
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1)
    part = part_of(path)
    try:
        packets = [*encoder.encode(VideoFrame.from_ndarray(picture, format="rgb24")), *encoder.encode(None)]
        part.write_bytes(b"".join(bytes(packet) for packet in packets))
        os.replace(part, path)
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(f"{path} can't be written ({reason(error)})") from error
    finally:
        part.unlink(missing_ok=True)

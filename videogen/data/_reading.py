"""Video files to tensors, whole or in chunks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from videogen.data._decoding import decode, open_container, video_stream
from videogen.data._frames import Pixels, VideoError, to_float

#: pixels (T * H * W) decoded at once unless the caller says otherwise: 6 GiB as float32, 10 s of 1080p at 24 fps
MAX_PIXELS = 2**29


class Video(NamedTuple):
    """A clip: frames (3, T, H, W) in [-1, 1], float32, and frames per second."""

    frames: Float[Tensor, "3 t h w"]
    fps: float


class VideoReader:
    """An open video file, read once from front to back; a context manager.

    Frames come upright (a phone's rotation is applied) and as they are stored: variable frame rates aren't
    resampled and pixels that aren't square aren't stretched.

    Args:
        path: a file of any format that FFmpeg reads.
        max_pixels: the most pixels (T * H * W) to decode at once.

    Attributes:
        height, width: in pixels.
        num_frames: what the file's header promises; None where it promises nothing.
        fps: mean frames per second.

    Raises:
        VideoError: no such file, no video in it, truncated, damaged at once, or a frame larger than `max_pixels`.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> None:
        self.path = Path(path)
        self.max_pixels = max_pixels
        self._container = open_container(self.path)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        stream = video_stream(self._container, self.path)
        self._check(1, stream.codec_context.height, stream.codec_context.width)
        frames = decode(self._container, stream, self.path)
        # headers err, and a rotation is known only from a frame
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{self.path} holds no frames")
        # a chain, unlike a generator, isn't closed by a reader that stops early and goes on later
        self._frames = chain([first], frames)
        self.height, self.width = int(first.shape[0]), int(first.shape[1])
        self.num_frames: int | None = stream.frames or None
        rate = stream.average_rate or stream.guessed_rate or stream.base_rate
        if not rate:
            raise VideoError(f"{self.path} doesn't say its frame rate: convert it to MP4 first")
        self.fps = float(rate)

    def frames(self) -> Iterator[Pixels]:
        """The frames not yet read, one by one, as bytes (H, W, 3).

        Raises:
            VideoError: a frame is damaged or of another size than the first.
        """
        return self._frames

    def chunks(self, size: int = 16, *, max_frames: int | None = None) -> Iterator[Float[Tensor, "3 t h w"]]:
        """The frames not yet read, `size` at a time, in [-1, 1]; the last chunk may be shorter.

        Raises:
            VideoError: as `frames`; or a chunk is larger than `max_pixels`.
        """
        _check_positive(size=size, max_frames=max_frames)
        self._check(self._promised(size), self.height, self.width)
        frames = islice(self.frames(), max_frames)
        while chunk := list(islice(frames, size)):
            yield _video(chunk)

    def read(self, max_frames: int | None = None) -> Float[Tensor, "3 t h w"]:
        """The frames not yet read, or the first `max_frames` of them, in [-1, 1].

        Raises:
            VideoError: as `frames`; or they are more than `max_pixels`, which the header tells before any is decoded.
        """
        _check_positive(max_frames=max_frames)
        self._check(self._promised(max_frames), self.height, self.width)
        read: list[Pixels] = []
        for frame in islice(self.frames(), max_frames):
            self._check(len(read) + 1, self.height, self.width)
            read.append(frame)
        return _video(read)

    def close(self) -> None:
        """Close the file: no more frames can be read."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _promised(self, limit: int | None) -> int:
        """How many frames there are to read, as far as the header tells."""
        return min((count for count in (limit, self.num_frames) if count), default=1)

    def _check(self, frames: int, height: int, width: int) -> None:
        if frames * height * width > self.max_pixels:
            raise VideoError(
                f"{self.path}: {frames} frames of {width}x{height} are {frames * height * width} pixels and the limit "
                f"is {self.max_pixels}: read fewer at once (max_frames, iter_frames) or raise max_pixels"
            )


def open_video(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> VideoReader:
    """Open a video file: `with open_video(path) as reader`. Raises as `VideoReader`."""
    return VideoReader(path, max_pixels=max_pixels)


def iter_frames(
    path: str | os.PathLike[str], chunk: int = 16, *, max_frames: int | None = None, max_pixels: int = MAX_PIXELS
) -> Iterator[Float[Tensor, "3 t h w"]]:
    """A video file `chunk` frames at a time, in [-1, 1], never whole in memory. Raises as `VideoReader`."""
    with VideoReader(path, max_pixels=max_pixels) as reader:
        yield from reader.chunks(chunk, max_frames=max_frames)


def read_video(path: str | os.PathLike[str], *, max_frames: int | None = None, max_pixels: int = MAX_PIXELS) -> Video:
    """A whole video file, or its first `max_frames` frames, with its frames per second.

    Raises:
        VideoError: as `VideoReader`; or the clip is larger than `max_pixels`.
    """
    with VideoReader(path, max_pixels=max_pixels) as reader:
        return Video(reader.read(max_frames), reader.fps)


def _video(frames: list[Pixels]) -> Tensor:
    """Frames (H, W, 3) of bytes -> (3, T, H, W) in [-1, 1], without another copy of the whole."""
    height, width, _ = frames[0].shape
    video = torch.empty(3, len(frames), height, width)
    for i, frame in enumerate(frames):
        video[:, i] = to_float(torch.from_numpy(np.moveaxis(frame, 2, 0)))
    return video


def _check_positive(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise VideoError(f"{name} is {count}: it must be 1 or more")

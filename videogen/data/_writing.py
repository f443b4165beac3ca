"""Tensors to MP4 files that every player opens; nothing half-written is left behind."""

from __future__ import annotations

import contextlib
import math
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from jaxtyping import Float
from torch import Tensor

from videogen.data._frames import ACCURATE, Pixels, VideoError, check_video, is_hd, reason, to_pixels
from videogen.data._target import check_target, part_of

# codes of ITU-T H.273: matrix BT.709 and BT.601, primaries and transfer BT.709, limited range
_BT709, _BT601, _LIMITED = 1, 6, 1


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a path that a video can't be written to; to be called before anything long.

    Raises:
        VideoError: a directory, another ending than .mp4, or a folder that is missing or not writable.
    """
    check_target(path, ".mp4")


class VideoWriter:
    """A video written chunk by chunk: H.264, yuv420p, index in front; a context manager.

    The file appears under its name when the `with` block ends without an error, and not before. H.264 players need
    even sizes: an odd one is padded by a copy of its last row or column, see `size`.

    Args:
        path: ends in .mp4; an existing file is replaced.
        fps: frames per second.
        crf: x264's constant rate factor; 0 is lossless but for the colours, 17 looks so, 23 is smaller.

    Attributes:
        size: height and width in the file, known after the first chunk.
        num_frames: written so far.

    Raises:
        VideoError: the path can't be written, or fps isn't a rate.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, *, crf: int = 17) -> None:
        if not (math.isfinite(fps) and 0 < fps <= 1000):
            raise VideoError(f"fps is {fps}: it must be above 0 and at most 1000")
        check_writable(path)
        self.path = Path(path)
        self.num_frames = 0
        self.size: Size | None = None
        self._given: Size | None = None
        self._rate = Fraction(fps).limit_denominator(1001)
        self._crf = crf
        self._part = part_of(self.path)
        self._reformatter = VideoReformatter()

    def write(self, chunk: Float[Tensor, "3 t h w"]) -> None:
        """Append frames in [-1, 1] (beyond is clamped), of any float type, on any device.

        Raises:
            VideoError: no video, NaN or infinite values, another size than before, or the encoder fails.
        """
        check_video(chunk, self.num_frames)
        given = Size(*chunk.shape[2:])
        if self._given is None:
            self._open(given)
        if given != self._given:
            raise VideoError(f"a chunk of {given} can't follow chunks of {self._given}: one video has one size")
        try:
            # a frame at a time, so that a long chunk isn't copied whole
            for frame in chunk.unbind(1):
                self._container.mux(self._stream.encode(self._yuv(to_pixels(frame[:, None])[0])))
                self.num_frames += 1
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path} can't be written ({reason(error)})") from error

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            VideoError: no frames were written, or the disk is full.
        """
        if self._given is None:
            raise VideoError(f"{self.path}: no frames were given, so no file was written")
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
            os.replace(self._part, self.path)
        except (av.error.FFmpegError, OSError) as error:
            self.discard()
            raise VideoError(f"{self.path} can't be written ({reason(error)})") from error

    def discard(self) -> None:
        """Give up: nothing remains of this file, and one of the same name stays as it was."""
        if self._given is not None:
            # the file is thrown away, so it doesn't matter that its end can't be written
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def _open(self, given: Size) -> None:
        self.size = Size(given.height + given.height % 2, given.width + given.width % 2)
        try:
            self._container = av.open(f"file:{self._part}", "w", format="mp4", options={"movflags": "+faststart"})
            self._given = given
            stream = self._stream = self._container.add_stream("libx264", rate=self._rate)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"{self.path} can't be written ({reason(error)})") from error
        stream.height, stream.width = self.size
        stream.pix_fmt = "yuv420p"
        # with its macroblock tree on, x264 makes another file each time of a small and smooth video (64x64: 21 in 30)
        stream.options = {"crf": str(self._crf), "x264-params": "mbtree=0"}
        context = stream.codec_context
        # the matrix that a player assumes of this size: right with players that don't read tags, too
        self._matrix = _BT709 if is_hd(*self.size) else _BT601
        context.colorspace, context.color_range = self._matrix, _LIMITED
        context.color_primaries = context.color_trc = _BT709

    def _yuv(self, pixels: Pixels) -> VideoFrame:
        assert self._given is not None
        height, width = self._given
        padded = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = VideoFrame.from_ndarray(padded, format="rgb24")
        matrix = Colorspace.ITU709 if self._matrix == _BT709 else Colorspace.SMPTE170M
        return self._reformatter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=ACCURATE,
            threads=1,
        )


def write_video(path: str | os.PathLike[str], video: Float[Tensor, "3 t h w"], fps: float, *, crf: int = 17) -> Size:
    """Write a clip in [-1, 1] as MP4; the height and width in the file, odd ones padded to even.

    Raises:
        VideoError: as `VideoWriter`; no file is written then.
    """
    with VideoWriter(path, fps, crf=crf) as writer:
        writer.write(video)
    assert writer.size is not None
    return writer.size

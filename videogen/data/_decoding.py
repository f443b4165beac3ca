"""A video file opened and decoded frame by frame; whatever is damaged is refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from videogen.data._frames import ACCURATE, Pixels, VideoError, is_hd, reason

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


def open_container(path: Path) -> InputContainer:
    """Open a local file.

    Raises:
        VideoError: no such file, or not one that FFmpeg knows.
    """
    if not path.exists():
        raise VideoError(f"{path}: no such file")
    if not path.is_file():
        raise VideoError(f"{path} is not a file: give the path of a video")
    try:
        # a playlist must not reach the network, nor a name with a colon be taken for a protocol
        return av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(
            f"{path} is no video, is cut off before its index, or has frames above 2**28 pixels: {reason(error)}"
        ) from error


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first stream of moving pictures; a song's cover doesn't count.

    Raises:
        VideoError: none, one without a size, or one whose index reaches beyond the end of the file.
    """
    streams = [s for s in container.streams.video if "attached_pic" not in (s.disposition.name or "")]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise VideoError(f"{path} has no video stream: it holds {kinds}")
    stream = streams[0]
    if not (stream.codec_context.width and stream.codec_context.height):
        raise VideoError(f"{path} has no frame size that can be decoded: damaged, or above 2**28 pixels a frame")
    # elsewhere positions aren't those in the file, or there is no index and a cut file is just a shorter one
    if "mp4" in container.format.name:
        end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
        size = path.stat().st_size
        if end > size:
            raise VideoError(f"{path} is truncated: its frames reach to byte {end} and it has {size}; copy it anew")
    # frames in parallel: by default a decoder works on the slices of one, and most files have one slice a frame
    stream.thread_type = "AUTO"
    return stream


def decode(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[Pixels]:
    """Every frame upright, as bytes (H, W, 3).

    Raises:
        VideoError: a frame is damaged or of another size than the first.
    """
    # one for the whole file: setting up a conversion takes longer than doing it
    count, shape, reformatter = 0, None, VideoReformatter()
    try:
        for packet in container.demux(stream):
            for frame in packet.decode():
                # decoders paint over what they can't read, and only this flag says so
                if packet.is_corrupt or frame.is_corrupt:
                    raise VideoError(_damaged(path, count, "its data doesn't decode"))
                pixels = _upright(frame, reformatter)
                shape = shape or pixels.shape
                if pixels.shape != shape:
                    raise VideoError(
                        f"frame {count} of {path} is {pixels.shape[1]}x{pixels.shape[0]} and the first is "
                        f"{shape[1]}x{shape[0]}: re-encode the file to one size"
                    )
                yield pixels
                count += 1
    except av.error.FFmpegError as error:
        raise VideoError(_damaged(path, count, reason(error))) from error


def _damaged(path: Path, count: int, why: str) -> str:
    remedy = f"or read the {count} frames before it with max_frames={count}" if count else "or re-encode it"
    return f"{path} is damaged at frame {count} ({why}): copy it anew, {remedy}"


def _upright(frame: VideoFrame, reformatter: VideoReformatter) -> Pixels:
    """A decoded frame -> bytes (H, W, 3), turned as its display matrix says."""
    guess = Colorspace.ITU709 if frame.colorspace == _UNSPECIFIED and is_hd(frame.height, frame.width) else None
    rgb = reformatter.reformat(frame, format="rgb24", src_colorspace=guess, interpolation=ACCURATE, threads=1)
    # rotation is counterclockwise in degrees, like rot90's turns
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), round(frame.rotation / 90) % 4))

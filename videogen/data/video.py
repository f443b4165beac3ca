"""Video files: `read_video`, `iter_frames`, `write_video` and what they are made of."""

from videogen.data._frames import VideoError
from videogen.data._reading import MAX_PIXELS, Video, VideoReader, iter_frames, open_video, read_video
from videogen.data._writing import Size, VideoWriter, check_writable, write_video

__all__ = [
    "MAX_PIXELS",
    "Size",
    "Video",
    "VideoError",
    "VideoReader",
    "VideoWriter",
    "check_writable",
    "iter_frames",
    "open_video",
    "read_video",
    "write_video",
]

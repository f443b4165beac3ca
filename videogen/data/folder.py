"""A folder of captioned video clips, listed in metadata.jsonl."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videogen.data import DATASETS, Clip
from videogen.data._frames import VideoError, to_float
from videogen.data._metadata import Entry, read_metadata
from videogen.data._reading import VideoReader


@DATASETS.register("folder")
class Folder:
    """Clips of a folder with metadata.jsonl, cropped at random in time and in space, at random scales.

    Each line of metadata.jsonl is an object with file_name, text, num_frames, width, height, and maybe split.
    Clips come in an order that is shuffled anew for every pass; one that is shorter than asked for is left out.

    Args:
        path: the folder.
        split: the clips with this split; all when empty.
        cache_mb: memory for decoded clips, in MiB; those that don't fit are decoded each time.
        seed: another seed is another order and other crops.

    Raises:
        VideoError: no metadata.jsonl, a line of it is wrong, no clip of this split, or files are missing.
    """

    def __init__(self, *, path: str = "", split: str = "", cache_mb: int = 1024, seed: int = 0) -> None:
        if not path:
            raise VideoError("data 'folder' needs a path: give the folder that holds metadata.jsonl")
        if seed < 0:
            raise VideoError(f"seed {seed} is negative: use 0 or more")
        self.path, self.seed = Path(path), seed
        self.entries = read_metadata(self.path, split)
        self._budget = cache_mb * 2**20
        self._cache: dict[str, Tensor] = {}

    def clip(self, index: int, num_frames: int, height: int, width: int) -> Clip:
        """A crop (3, T, H, W) in [-1, 1] of one clip, and its caption; a function of the arguments and the seed.

        Scales go from the one where the frame just covers the crop to the native one, so that details are seen too.

        Raises:
            VideoError: a negative index, an empty crop, no clip is this long, or a file is not what its line says.
        """
        if index < 0 or min(num_frames, height, width) < 1:
            raise VideoError(f"clip {index} of {num_frames} frames of {width}x{height}: sizes start at 1, indices at 0")
        entry = self._entry(index, num_frames)
        rng = np.random.default_rng([self.seed, index])
        start = int(rng.integers(entry.num_frames - num_frames + 1))
        frames = self._frames(entry, start, num_frames)
        return Clip(_random_crop(frames, height, width, rng), entry.text)

    def _entry(self, index: int, num_frames: int) -> Entry:
        """Every clip that is long enough comes once in as many indices as there are such clips."""
        long_enough = [entry for entry in self.entries if entry.num_frames >= num_frames]
        if not long_enough:
            longest = max(entry.num_frames for entry in self.entries)
            raise VideoError(
                f"0 of {len(self.entries)} clips in {self.path} have {num_frames} frames: the longest has {longest}"
            )
        epoch, position = divmod(index, len(long_enough))
        return long_enough[_order(self.seed, epoch, len(long_enough))[position]]

    def _frames(self, entry: Entry, start: int, count: int) -> Tensor:
        """Frames start to start + count of a clip, as bytes (3, count, H, W)."""
        # taken out and put back, so that the first in the dict is the one not used for longest
        clip = self._cache.pop(entry.file_name, None)
        if clip is None:
            if entry.num_bytes > self._budget:
                return self._decode(entry, start, start + count)
            clip = self._decode(entry, 0, entry.num_frames)
        self._cache[entry.file_name] = clip
        while sum(kept.numel() for kept in self._cache.values()) > self._budget:
            del self._cache[next(iter(self._cache))]
        return clip[:, start : start + count]

    def _decode(self, entry: Entry, start: int, end: int) -> Tensor:
        with VideoReader(self.path / entry.file_name) as reader:
            if (reader.height, reader.width) != (entry.height, entry.width):
                raise VideoError(
                    f"{entry.file_name} is {reader.width}x{reader.height} and metadata.jsonl says "
                    f"{entry.width}x{entry.height}: correct the line"
                )
            frames = reader.frames()
            kept = [torch.from_numpy(frame) for i, frame in zip(range(end), frames, strict=False) if i >= start]
        if len(kept) < end - start:
            raise VideoError(
                f"{entry.file_name} has {start + len(kept)} frames and metadata.jsonl says {entry.num_frames}: "
                "correct the line"
            )
        return torch.stack(kept).permute(3, 0, 1, 2).contiguous()


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    """The numbers below `count`, shuffled."""
    # two numbers seed the crops, three the order: the streams never meet
    return [int(i) for i in np.random.default_rng([seed, epoch, 1]).permutation(count)]


def _random_crop(frames: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """Bytes (3, T, h, w) -> video (3, T, height, width) in [-1, 1]: a random part at a random scale."""
    source_height, source_width = frames.shape[2:]
    cover = max(height / source_height, width / source_width)
    # uniform in the logarithm; a source that is smaller than the crop is enlarged as little as possible
    scale = math.exp(rng.uniform(min(math.log(cover), 0.0), 0.0)) if cover < 1 else cover
    crop_height = min(round(height / scale), source_height)
    crop_width = min(round(width / scale), source_width)
    top = int(rng.integers(source_height - crop_height + 1))
    left = int(rng.integers(source_width - crop_width + 1))
    video = to_float(frames[:, :, top : top + crop_height, left : left + crop_width])
    if (crop_height, crop_width) == (height, width):
        return video
    resized = F.interpolate(video.transpose(0, 1), (height, width), mode="bicubic", antialias=True)
    return resized.transpose(0, 1).clamp(-1.0, 1.0).contiguous()

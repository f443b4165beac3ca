"""Captioned video: reading and writing files, and datasets that give clips with sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class Clip(NamedTuple):
    """One example: video (3, T, H, W) in [-1, 1] and the sentence that describes it ("" when there is none)."""

    video: Tensor
    text: str


class Dataset(Protocol):
    """Endless captioned clips: clip `index` is the same whenever it is asked for."""

    def clip(self, index: int, num_frames: int, height: int, width: int) -> Clip:
        """The clip of this index at the given length and size."""
        ...


DATASETS: Registry[Dataset] = Registry(
    "data",
    "videogen.data",
    modules={"shapes": "videogen.data.shapes", "folder": "videogen.data.folder", "mixed": "videogen.data.mixed"},
)

"""Guidance by text and by an image, each with a scale of its own: three predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from videogen.guidance import GUIDES, Branch, Moment
from videogen.guidance._shared import TextGuide


@GUIDES.register("text_image")
@dataclasses.dataclass(kw_only=True, eq=False)
class TextImage(TextGuide):
    """none + image_scale * (image - none) + scale * (full - image) (InstructPix2Pix, arXiv 2211.09800, eq. 3).

    DynamiCrafter and Open-Sora 2.0 guide so.

    Args:
        image_scale: of the image; `guidance` is that of the text.
    """

    #: its branch "none" is without the image too
    guides_image: ClassVar[bool] = True

    image_scale: float = 3.0

    def branches(self, scale: float, moment: Moment | None = None) -> tuple[Branch, ...]:
        """Those whose weights aren't 0."""
        if scale == self.image_scale:
            return ("full",) if scale == 1.0 else ("full", "none")
        return ("full", "image") if self.image_scale == 1.0 else ("full", "image", "none")

    def combine(self, predictions: Mapping[Branch, Tensor], scale: float, moment: Moment) -> Tensor:
        """The weighted sum of the three, (B, C, T, H, W)."""
        full = predictions["full"]
        # the image's prediction has no weight where both scales are equal
        image = predictions.get("image", full)
        guided = image + scale * (full - image)
        if "none" not in predictions:
            return guided
        none = predictions["none"]
        if "image" not in predictions:
            return none + scale * (full - none)
        return none + self.image_scale * (image - none) + scale * (full - image)

"""What most guides share: one scale at a moment, between two predictions."""

# annotations stay evaluated here: the knobs' types are read from the subclasses, whose modules needn't import them
import dataclasses
from collections.abc import Mapping
from typing import Self

from torch import Tensor

from videogen.guidance import Branch, Moment


@dataclasses.dataclass(kw_only=True, eq=False)
class TextGuide:
    """Classifier-free guidance whose scale may depend on the moment; where it is 1 one prediction is enough."""

    def scale_at(self, scale: float, moment: Moment) -> float:
        """The scale at a moment."""
        return scale

    def branches(self, scale: float, moment: Moment | None = None) -> tuple[Branch, ...]:
        """The full prediction, and that without text unless the scale is 1."""
        now = scale if moment is None else self.scale_at(scale, moment)
        return ("full",) if now == 1.0 else ("full", "none")

    def combine(self, predictions: Mapping[Branch, Tensor], scale: float, moment: Moment) -> Tensor:
        """none + scale * (full - none) (Ho and Salimans, arXiv 2207.12598, eq. 6), (B, C, T, H, W)."""
        full = predictions["full"]
        if "none" not in predictions:
            return full
        return predictions["none"] + self.scale_at(scale, moment) * (full - predictions["none"])

    def start(self) -> Self:
        """Itself: nothing is remembered."""
        return self

    @property
    def on_x0(self) -> bool:
        """False: it is linear, and so the same on any prediction."""
        return False

"""Guidance in an interval of noise levels, or of steps, alone: elsewhere it costs diversity, or does nothing."""

from __future__ import annotations

import dataclasses
import math

from videogen.guidance import GUIDES, Moment
from videogen.guidance._shared import TextGuide


@GUIDES.register("interval")
@dataclasses.dataclass(kw_only=True, eq=False)
class Interval(TextGuide):
    """Guidance in a limited interval (Kynkäänniemi et al., arXiv 2404.07724, eq. 5): outside, the scale is 1.

    Outside there is one prediction a step in place of two.

    Args:
        low: noise level sigma / alpha above which the sample is guided.
        high: level up to which it is.
        first: part of the steps, 0 to 1, after which guidance starts.
        last: part of the steps after which it ends.

    Raises:
        ValueError: an interval that is empty.
    """

    low: float = 0.2
    high: float = 10.0
    first: float = 0.0
    last: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(f"low={self.low}, high={self.high}: noise levels that ascend from 0")
        if not 0 <= self.first < self.last <= 1:
            raise ValueError(f"first={self.first}, last={self.last}: parts of the steps that ascend within [0, 1]")

    def scale_at(self, scale: float, moment: Moment) -> float:
        """The scale inside the interval, 1 outside."""
        first, last = (math.floor(part * moment.steps) for part in (self.first, self.last))
        inside = self.low < moment.level <= self.high and first <= moment.step < last
        return scale if inside else 1.0

"""Oscillating guidance: after some steps every other one is hardly guided, which keeps colours from saturating."""

from __future__ import annotations

import dataclasses

from videogen.guidance import GUIDES, Branch, Moment
from videogen.guidance._shared import TextGuide


@GUIDES.register("oscillating")
@dataclasses.dataclass(kw_only=True, eq=False)
class Oscillating(TextGuide):
    """Guidance of every other step (Open-Sora 2.0, arXiv 2503.09642, section 5.2), after some that are all guided.

    Args:
        steady: steps at the start that are all guided.
        low: scale of the odd steps after those; 1 is no guidance, and one prediction.

    Raises:
        ValueError: a negative number of steps.
    """

    steady: int = 10
    low: float = 1.0

    def __post_init__(self) -> None:
        if self.steady < 0:
            raise ValueError(f"steady={self.steady} steps: at least 0")

    def scale_at(self, scale: float, moment: Moment) -> float:
        """The scale in even steps and in the first ones, `low` in the others."""
        return scale if moment.step < self.steady or moment.step % 2 == 0 else self.low

    def branches(self, scale: float, moment: Moment | None = None) -> tuple[Branch, ...]:
        """The full prediction, and that without text unless the scale is 1; in some step it may be `low`."""
        return ("full", "none") if moment is None and self.low != 1.0 else super().branches(scale, moment)

"""Guidance: predictions under more and under less condition, combined into one; the contract of every guide.

`guidance=` is the scale, a number; `guide=` chooses how it is used. A guide says which predictions it needs at a moment
of the walk, so that all of them are made in one batched call, and those that it can do without are not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

#: what a prediction was made under: everything; all but the text; neither text nor image
Branch = Literal["full", "image", "none"]


class Moment(NamedTuple):
    """Where a walk is.

    Args:
        step: from 0.
        steps: of the whole walk.
        level: sigma / alpha, the noise level in the scale where data keep theirs.
    """

    step: int
    steps: int
    level: float


class Guide(Protocol):
    """A way to guide."""

    def branches(self, scale: float, moment: Moment | None = None) -> tuple[Branch, ...]:
        """The predictions that are needed, "full" first.

        Args:
            scale: of the guidance; 1 is none.
            moment: None for all that may be needed in the course of a walk.
        """
        ...

    def combine(self, predictions: Mapping[Branch, Tensor], scale: float, moment: Moment) -> Tensor:
        """One prediction (B, C, T, H, W) of those of `branches`, each (B, C, T, H, W)."""
        ...

    def start(self) -> Self:
        """The guide for one walk, with what it remembers from step to step, if anything, empty."""
        ...

    @property
    def on_x0(self) -> bool:
        """Whether it wants clean latents, in place of what the network predicts; the same for a linear guide."""
        ...


GUIDES: Registry[Guide] = Registry("guide", "videogen.guidance")

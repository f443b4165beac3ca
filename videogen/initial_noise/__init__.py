"""The noise that a film begins as, one idea a file: the contract that all of them keep.

What a film shows, and where, is decided while it is mostly noise: frames whose noise has something in common come out
alike. Each frame's noise is standard normal whatever the kind; they differ in what frames have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Generator, Tensor

#: channels, latent frames, height and width
Shape = tuple[int, int, int, int]


class Seen(NamedTuple):
    """What a model sees at once of a film that is longer.

    Args:
        length: latent frames of a window.
        stride: from the start of one window to that of the next, at most.
    """

    length: int
    stride: int


class InitialNoise(Protocol):
    """A way to draw the noise of a whole film."""

    def draw(self, shape: Shape, source: Generator, seen: Seen | None = None) -> Tensor:
        """The noise of one film (C, T, H, W), each value standard normal.

        Args:
            shape: of the film's latents.
            source: what it is drawn from, and nothing else: a film depends on its own seed alone.
            seen: None where the model sees the film whole.

        Raises:
            ValueError: a kind that is made of windows, and there are none.
        """
        ...


INITIAL_NOISE: Registry[InitialNoise] = Registry("initial_noise", "videogen.initial_noise")

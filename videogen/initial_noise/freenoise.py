"""The noise of the first window, again and again in another order: far windows of a long film come out alike."""

from __future__ import annotations

import dataclasses

import torch
from torch import Generator, Tensor

from videogen.initial_noise import INITIAL_NOISE, Seen, Shape


@INITIAL_NOISE.register("freenoise")
@dataclasses.dataclass(kw_only=True, eq=False)
class FreeNoise:
    """FreeNoise's rescheduled noise (arXiv 2310.15169): each stride of frames behind the first window is
    the one a window earlier, shuffled.

    Every frame of a window still has noise of its own, as a model of independent noise expects; all windows have the
    same frames of noise, and so tend to the same content.

    Args:
        shuffle: within each stride; without it the noise just repeats, and the motion with it.
    """

    shuffle: bool = True

    def draw(self, shape: Shape, source: Generator, seen: Seen | None = None) -> Tensor:
        """See `videogen.initial_noise.InitialNoise`; a film that is no longer than a window is independent noise.

        Raises:
            ValueError: no window.
        """
        if seen is None:
            raise ValueError(
                "initial_noise=freenoise repeats the noise of a window and there is none: set window= to a length that "
                "the model was trained on, or take initial_noise=independent"
            )
        frames = shape[1]
        order = list(range(min(seen.length, frames)))
        # the noise of all frames, so that the first window is as it is with independent noise
        fresh = torch.randn(shape, generator=source)
        while len(order) < frames:
            piece = order[len(order) - seen.length :][: seen.stride]
            places = torch.randperm(len(piece), generator=source).tolist() if self.shuffle else range(len(piece))
            order += [piece[place] for place in places]
        return fresh[:, order[:frames]]

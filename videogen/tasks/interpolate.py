"""Frames between the frames of a film."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from videogen.tasks import TASKS, Known, Request, Sample
from videogen.tasks._shared import TaskBase, pasted


@TASKS.register("interpolate")
@dataclasses.dataclass(kw_only=True, eq=False)
class Interpolate(TaskBase):
    """`video=` with `factor - 1` new frames after each of its frames but the last; `fps=` says how fast it then plays.

    Long films are made in samples of `num_frames` that meet in a frame.

    Args:
        factor: how many times as many frames.

    Raises:
        ValueError: a factor below 2.
    """

    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor={self.factor}: at least 2")

    @property
    def needs(self) -> frozenset[str]:
        """The film."""
        return frozenset({"video"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, (T - 1) * factor + 1, H, W).

        Raises:
            ValueError: a film of one frame, or samples in which no two frames of it have room.
        """
        film = request.video
        assert film is not None
        gaps = (request.num_frames - 1) // self.factor
        if film.shape[2] < 2 or gaps < 1:
            raise ValueError(
                f"{film.shape[2]} frames, {self.factor} times as many, in samples of {request.num_frames}: at least "
                f"2 frames, and num_frames of at least {self.factor + 1}"
            )
        pieces = [film[:, :, :1]]
        for first in range(0, film.shape[2] - 1, gaps):
            known = self._known(request, film[:, :, first : first + gaps + 1])
            made = pasted(sample(request.num_frames, known=known), known)
            there = min(gaps, film.shape[2] - 1 - first)
            pieces.append(made[:, :, 1 : there * self.factor + 1])
        return torch.cat(pieces, dim=2)

    def _known(self, request: Request, given: Tensor) -> Known:
        """One sample of which every factor-th frame is known."""
        batch, _, count, height, width = given.shape
        film = given.new_zeros(batch, 3, request.num_frames, height, width)
        mask = torch.zeros(request.num_frames, height, width, dtype=torch.bool)
        there = slice(0, (count - 1) * self.factor + 1, self.factor)
        film[:, :, there], mask[there] = given, True
        return Known(film, mask)

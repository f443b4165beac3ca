"""Frames between the frames of a film."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from videogen.tasks import TASKS, Known, Request, Sample, Start
from videogen.tasks._shared import TaskBase, check_strength, pasted


@TASKS.register("interpolate")
@dataclasses.dataclass(kw_only=True, eq=False)
class Interpolate(TaskBase):
    """`video=` with `factor - 1` new frames after each of its frames but the last; `fps=` says how fast it then plays.

    Long films are made in samples of `num_frames` that meet in a frame. They start from the frames of the film, each
    shown until the next: that is nearly right already, and where an object is by then is decided.

    Args:
        factor: how many times as many frames.
        strength: share of the steps that are walked from there, as of task=edit.

    Raises:
        ValueError: a factor below 2, or a strength that isn't above 0 and up to 1.
    """

    factor: int = 2
    strength: float = 0.15

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor={self.factor}: at least 2")
        check_strength(self.strength)

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
            start = Start(self._guess(known), self.strength)
            made = pasted(sample(request.num_frames, known=known, start=start), known)
            there = min(gaps, film.shape[2] - 1 - first)
            pieces.append(made[:, :, 1 : there * self.factor + 1])
        return torch.cat(pieces, dim=2)

    def _guess(self, known: Known) -> Tensor:
        """The nearest known frame everywhere, of two the earlier; behind the last one, that one."""
        number = (torch.arange(len(known.frames)) + (self.factor - 1) // 2) // self.factor * self.factor
        return known.film[:, :, number.clamp(max=int(known.frames.nonzero().max()))]

    def _known(self, request: Request, given: Tensor) -> Known:
        """One sample of which every factor-th frame is known."""
        batch, _, count, height, width = given.shape
        film = given.new_zeros(batch, 3, request.num_frames, height, width)
        mask = torch.zeros(request.num_frames, height, width, dtype=torch.bool)
        there = slice(0, (count - 1) * self.factor + 1, self.factor)
        film[:, :, there], mask[there] = given, True
        return Known(film, mask)

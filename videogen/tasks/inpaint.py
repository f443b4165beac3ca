"""A part of a film made anew, in space, in time or both; the rest stays."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool
from torch import Tensor

from videogen.tasks import TASKS, Known, Request, Sample, Start
from videogen.tasks._shared import TaskBase, beginning, check_strength, pasted

#: top, left, bottom and right, as shares of the height and the width
Box = tuple[float, float, float, float]
EVERYWHERE: Box = (0.0, 0.0, 1.0, 1.0)


@TASKS.register("inpaint")
@dataclasses.dataclass(kw_only=True, eq=False)
class Inpaint(TaskBase):
    """The first `num_frames` frames of `video=`, made anew under `mask=`, or within a box and between two frames.

    Args:
        box: top, left, bottom and right of what is made anew, as shares of height and width, 0 to 1.
        frames: the first frame that is made anew and the one after the last; (0, 0) for all.
        strength: share of the steps that are walked, as of task=edit: at 1 nothing is left of what was there, below
            it what is made takes its place and its way.

    Raises:
        ValueError: a box without an inside, frames that don't ascend, or a strength that isn't above 0 and up to 1.
    """

    box: Box = EVERYWHERE
    frames: tuple[int, int] = (0, 0)
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_strength(self.strength)
        top, left, bottom, right = self.box
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise ValueError(f"box={self.box}: top, left, bottom and right as shares, 0 to 1, that ascend")
        if self.frames != (0, 0) and not 0 <= self.frames[0] < self.frames[1]:
            raise ValueError(f"frames={self.frames}: the first frame and the one after the last; (0, 0) for all")

    @property
    def takes(self) -> frozenset[str]:
        """The film, and a mask in place of the box."""
        return frozenset({"video", "mask"})

    @property
    def needs(self) -> frozenset[str]:
        """The film."""
        return frozenset({"video"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, T, H, W), `num_frames` long.

        Raises:
            ValueError: a film that is shorter, a mask of another size or beside a box, or one that covers everything or
                nothing.
        """
        film = beginning(request)
        known = Known(film, ~self._anew(request, film.shape[2]))
        if known.mask.all() or not known.mask.any():
            covered = "nothing" if known.mask.all() else "everything"
            raise ValueError(
                f"the mask covers {covered} of the film: what it covers is made anew and the rest stays; for all of it "
                "anew take task=edit, or no film at all"
            )
        start = Start(film, self.strength) if self.strength < 1 else None
        return pasted(sample(film.shape[2], known=known, start=start), known)

    def _anew(self, request: Request, frames: int) -> Bool[Tensor, "t h w"]:
        """What is made anew."""
        size = request.height, request.width
        first, end = self.frames if self.frames != (0, 0) else (0, frames)
        if end > frames:
            raise ValueError(f"task.frames={self.frames}: the film has {frames} frames")
        anew = torch.zeros(frames, *size, dtype=torch.bool)
        if request.mask is None:
            (top, bottom), (left, right) = (
                (round(low * side), round(high * side))
                for low, high, side in ((*self.box[::2], size[0]), (*self.box[1::2], size[1]))
            )
            anew[first:end, top:bottom, left:right] = True
            return anew
        if self.box != EVERYWHERE:
            raise ValueError("a mask and task.box: give one of the two")
        if tuple(request.mask.shape) not in (size, (frames, *size)):
            raise ValueError(
                f"a mask of shape {tuple(request.mask.shape)} for a film of {frames}x{size[0]}x{size[1]}: give "
                f"{size} or {(frames, *size)}"
            )
        anew[first:end] = request.mask.expand(frames, *size)[first:end]
        return anew

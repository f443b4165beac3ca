"""A film with more around it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from videogen.tasks import TASKS, Known, Request, Sample, Start
from videogen.tasks._shared import TaskBase, beginning, check_strength, pasted


@TASKS.register("outpaint")
@dataclasses.dataclass(kw_only=True, eq=False)
class Outpaint(TaskBase):
    """The first `num_frames` frames of `video=`, made smaller, and around it what else there is to see.

    It starts from the film with its outermost pixels drawn out to the edges.

    Args:
        scale: side of the film as a share of the picture's, above 0 and below 1.
        down, across: where it lies: 0 at the top and on the left, 1 at the bottom and on the right.
        strength: share of the steps that are walked from there, as of task=edit.

    Raises:
        ValueError: a knob out of range.
    """

    scale: float = 0.75
    down: float = 0.5
    across: float = 0.5
    strength: float = 0.8

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not 0 < self.scale < 1:
            raise ValueError(f"scale={self.scale}: above 0 and below 1, where nothing is left to be made")
        if not (0 <= self.down <= 1 and 0 <= self.across <= 1):
            raise ValueError(f"down={self.down}, across={self.across}: 0 to 1")

    @property
    def needs(self) -> frozenset[str]:
        """The film."""
        return frozenset({"video"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, T, H, W), `num_frames` long and as large as the one given.

        Raises:
            ValueError: a film that is shorter.
        """
        film = beginning(request)
        batch, _, frames, height, width = film.shape
        inner = max(1, round(height * self.scale)), max(1, round(width * self.scale))
        images = film.transpose(1, 2).flatten(0, 1)
        small = interpolate(images, inner, mode="bilinear", antialias=True, align_corners=False)
        top, left = round((height - inner[0]) * self.down), round((width - inner[1]) * self.across)
        there = slice(top, top + inner[0]), slice(left, left + inner[1])
        around = left, width - left - inner[1], top, height - top - inner[0]
        canvas = pad(small, around, mode="replicate").unflatten(0, (batch, frames)).transpose(1, 2)
        mask = torch.zeros(frames, height, width, dtype=torch.bool)
        mask[:, *there] = True
        known = Known(canvas, mask)
        return pasted(sample(frames, known=known, start=Start(canvas, self.strength)), known)

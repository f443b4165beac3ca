"""Two films made one: what lies between the end of one and the start of the other."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from videogen.tasks import TASKS, Request, Sample
from videogen.tasks._shared import TaskBase, check_overlap, overlap_ahead, overlap_behind, placed


@TASKS.register("connect")
@dataclasses.dataclass(kw_only=True, eq=False)
class Connect(TaskBase):
    """One sample whose first frames are the last of `video=` and whose last are the first of `other=`.

    Args:
        overlap: how many frames of each film the sample has in common with it, at most; as many as fill latent frames.
    """

    overlap: int = 5

    @property
    def needs(self) -> frozenset[str]:
        """Both films."""
        return frozenset({"video", "other"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The first film, what was made, and the other film (B, 3, T, H, W).

        Raises:
            ValueError: overlaps that hold no latent frame, or leave no frame to be made.
        """
        one, other = request.video, request.other
        assert one is not None
        assert other is not None
        ahead = overlap_ahead(min(self.overlap, one.shape[2]), request.spec)
        behind = overlap_behind(min(self.overlap, other.shape[2]), request.spec)
        for keep in (ahead, behind, ahead + behind):
            check_overlap("task.overlap", keep, self.overlap, request)
        ends = {0: one[:, :, -ahead:], request.num_frames - behind: other[:, :, :behind]}
        made = sample(request.num_frames, known=placed(request.num_frames, ends))
        return torch.cat([one, made[:, :, ahead : request.num_frames - behind], other], dim=2)

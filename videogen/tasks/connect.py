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

    Films of two sentences, of which a model that was trained on films of one each knows no passage, take two samples:
    the first film goes on under its own sentence, the other is led up to under its own, and while they overlap the one
    dissolves into the other.

    Args:
        overlap: how many frames of each film the sample has in common with it, at most; as many as fill latent frames.
        then: the sentence of the other film; empty if it is the same.
    """

    overlap: int = 5
    then: str = ""

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
        behind = overlap_behind(min(self.overlap, other.shape[2]), request.num_frames, request.spec)
        for keep in (ahead, behind, ahead + behind):
            check_overlap("task.overlap", keep, self.overlap, request)
        frames, there = request.num_frames, slice(ahead, request.num_frames - behind)
        start, end = {0: one[:, :, -ahead:]}, {frames - behind: other[:, :, :behind]}
        if not self.then:
            made = sample(frames, known=placed(frames, start | end))
        else:
            sample.check(frames, placed(frames, start))
            sample.check(frames, placed(frames, end))
            onward = sample(frames, known=placed(frames, start))
            before = sample(frames, known=placed(frames, end), prompts=[self.then] * len(request.prompts))
            made = torch.lerp(onward, before, _shares(frames, there).to(before)[:, None, None])
        return torch.cat([one, made[:, :, there], other], dim=2)


def _shares(frames: int, between: slice) -> Tensor:
    """How much of the other film there is in each frame, (T,): from 0 to 1, evenly, over those between."""
    shares: Tensor = ((torch.arange(frames) - between.start + 1) / (between.stop - between.start + 1)).clamp(0, 1)
    return shares

"""A film made another: its noise is taken back up, and taken away again under another sentence."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from videogen.tasks import TASKS, Request, Sample, Start
from videogen.tasks._shared import TaskBase, beginning, check_strength


@TASKS.register("edit", aliases=("sdedit",))
@dataclasses.dataclass(kw_only=True, eq=False)
class Edit(TaskBase):
    """SDEdit (Meng et al., arXiv 2108.01073): noise on the first `num_frames` frames of `video=`, walked back anew.

    Args:
        strength: share of the steps that are walked: near 0 the film stays as it is, at 1 nothing of it is left.
        of: a sentence of what the film shows, from which guidance then leads to the new one: what both say stays as it
            is, so that fewer steps are needed; empty leads there from no sentence.

    Raises:
        ValueError: a strength that isn't above 0 and up to 1.
    """

    strength: float = 0.3
    of: str = ""

    def __post_init__(self) -> None:
        check_strength(self.strength)

    @property
    def needs(self) -> frozenset[str]:
        """The film to edit."""
        return frozenset({"video"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, num_frames, H, W). Raises ValueError for a film that is shorter."""
        of = [self.of] * len(request.prompts) if self.of else None
        return sample(request.num_frames, start=Start(beginning(request), self.strength, of))

"""A film that goes on, forward or backward, any number of times: as long as wanted, from a model of short films."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from videogen.tasks import TASKS, Request, Sample, check_pixels
from videogen.tasks._shared import TaskBase, check_overlap, overlap_ahead, overlap_behind, placed


@TASKS.register("extend")
@dataclasses.dataclass(kw_only=True, eq=False)
class Extend(TaskBase):
    """Samples that each start with the last frames of the film so far, or end with its first ones.

    The film is `video=`, or a first sample where there is none. Frames that are there stay as they are.

    Args:
        length: of the whole film in frames, what is given included; it is cut to just this.
        overlap: how many frames a sample has in common with the film before it, at most: more of them tell the speed,
            fewer leave more to be made. As many are taken as fill latent frames.
        direction: forward, or backward, to what was before.
        then: sentences that follow on the first one, in turn and over again. Where the sentence changes, one latent
            frame is common: the motion is free to change.
        scene: frames that each sentence lasts; 0 for one sample each.

    Raises:
        ValueError: a length that isn't positive, or scenes without sentences.
    """

    length: int = 49
    overlap: int = 9
    direction: Literal["forward", "backward"] = "forward"
    then: tuple[str, ...] = ()
    scene: int = 0

    def __post_init__(self) -> None:
        if self.length < 1 or self.scene < 0:
            raise ValueError(f"length={self.length}, scene={self.scene}: numbers of frames, at least 1 and 0")
        if self.scene and not self.then:
            raise ValueError(f"scene={self.scene}: say with then=[...] which sentences follow")
        if any(not sentence.strip() for sentence in self.then):
            raise ValueError("then= holds an empty sentence: say what the film should show")

    @property
    def takes(self) -> frozenset[str]:
        """The film to extend, or images of its first sample."""
        return frozenset({"video", "image"})

    def run(self, request: Request, sample: Sample) -> Tensor:
        """The films (B, 3, length, H, W).

        Raises:
            ValueError: a film and images, an overlap that doesn't fit, a film that is as long already, or more frames
                than fit in memory.
        """
        if request.video is not None and request.image is not None:
            raise ValueError("a film to extend and images of its first frames: give one of the two")
        self._overlap(request, self.overlap)
        check_pixels(len(request.prompts), self.length, request.height, request.width)
        film = sample(request.num_frames, known=request.image) if request.video is None else request.video
        if request.video is not None and film.shape[2] >= self.length:
            raise ValueError(f"the film has {film.shape[2]} frames already: set task.length to more of them")
        pieces = scene = 0
        while film.shape[2] < self.length:
            pieces += 1
            now = film.shape[2] // self.scene if self.scene else pieces
            film = self._longer(
                request, sample, film, self._sentences(request, now), new=bool(self.then and now > scene)
            )
            scene = now
        return film[:, :, : self.length] if self.direction == "forward" else film[:, :, -self.length :]

    def _sentences(self, request: Request, scene: int) -> Sequence[str]:
        index = scene % (len(self.then) + 1)
        return [self.then[index - 1]] * len(request.prompts) if index else request.prompts

    def _longer(self, request: Request, sample: Sample, film: Tensor, prompts: Sequence[str], *, new: bool) -> Tensor:
        """The film and one sample more, with or without a common motion."""
        ahead = self.direction == "forward"
        wanted = self.overlap
        if new:
            wanted = 1 if ahead and request.spec.first_frame_alone else request.spec.temporal_stride
        keep = self._overlap(request, min(wanted, film.shape[2]))
        there = film[:, :, -keep:] if ahead else film[:, :, :keep]
        known = placed(request.num_frames, {0 if ahead else request.num_frames - keep: there})
        made = sample(request.num_frames, known=known, prompts=prompts)
        return torch.cat([film, made[:, :, keep:]] if ahead else [made[:, :, :-keep], film], dim=2)

    def _overlap(self, request: Request, wanted: int) -> int:
        fitting = overlap_ahead if self.direction == "forward" else overlap_behind
        return check_overlap("task.overlap", fitting(wanted, request.spec), wanted, request)

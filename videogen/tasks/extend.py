"""A film that goes on, forward or backward, any number of times: as long as wanted, from a model of short films."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from videogen.tasks import TASKS, Known, Request, Sample, check_pixels
from videogen.tasks._shared import TaskBase, check_overlap, overlap_ahead, overlap_behind, placed, some_film


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
        if request.video is not None and request.video.shape[2] >= self.length:
            raise ValueError(f"the film has {request.video.shape[2]} frames already: set task.length to more of them")
        if request.video is not None or self.length > request.num_frames:
            # sentences that change and sentences that go on ask for different frames
            for new in {bool(self.then), bool(self.then and not self.scene)}:
                sample.check(request.num_frames, self._known(request, some_film(request), new=new)[0])
        film = sample(request.num_frames, known=request.image) if request.video is None else request.video
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
        known, keep = self._known(request, film, new=new)
        made = sample(request.num_frames, known=known, prompts=prompts)
        ahead = self.direction == "forward"
        return torch.cat([film, made[:, :, keep:]] if ahead else [made[:, :, :-keep], film], dim=2)

    def _known(self, request: Request, film: Tensor, *, new: bool) -> tuple[Known, int]:
        """What the next sample has in common with the film, and how many frames these are."""
        ahead, spec, wanted = self.direction == "forward", request.spec, self.overlap
        if new:
            wanted = len(spec.frames_of(0 if ahead else spec.latent_place(request.num_frames - 1)))
        keep = self._overlap(request, min(wanted, film.shape[2]))
        there = film[:, :, -keep:] if ahead else film[:, :, :keep]
        return placed(request.num_frames, {0 if ahead else request.num_frames - keep: there}), keep

    def _overlap(self, request: Request, wanted: int) -> int:
        ahead, spec = self.direction == "forward", request.spec
        keep = overlap_ahead(wanted, spec) if ahead else overlap_behind(wanted, request.num_frames, spec)
        return check_overlap("task.overlap", keep, wanted, request)

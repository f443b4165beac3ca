"""How to sample: what a model's config says, and what a call may say otherwise."""

from __future__ import annotations

import dataclasses
from typing import Literal

from videogen.pipelines.given import Blank

CleanFrames = Literal["none", "first", "any"]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample, unless a call says otherwise.

    Args:
        num_frames: length of the video.
        height: in pixels.
        width: in pixels.
        steps: of the scheduler.
        guidance: scale that the guide is given; 1 is none.
        guidance_rescale: 0 to 1, see `rescaled`.
        negative_prompt: what guidance leads away from; "" is the absence of text.
        embedded_guidance: scale that a model is told which was distilled from a guided one, beside `guidance`, which
            is mostly 1 then; None for other models.
        condition_fps: frames a second that a model is told; None leaves it to the model's own default.
        blank: what stands in the latents of known frames where nothing is known, see `known_latents`.
        clean_frames: which latent frames the model was trained to take as they are, without noise and at a time of
            their own: the first (Wan 2.2), any, or none.
    """

    num_frames: int = 17
    height: int = 64
    width: int = 64
    steps: int = 30
    guidance: float = 4.0
    guidance_rescale: float = 0.0
    negative_prompt: str = ""
    embedded_guidance: float | None = None
    condition_fps: float | None = None
    blank: Blank = "gray"
    clean_frames: CleanFrames = "none"

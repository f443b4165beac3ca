"""How to sample: what a model's config says, and what a call may say otherwise."""

from __future__ import annotations

import dataclasses
from typing import Literal

from videogen.pipelines.given import Blank

CleanFrames = Literal["none", "first", "any"]
WindowOf = Literal["network", "attention"]
FreeInitFilter = Literal["butterworth", "gaussian", "ideal", "box"]


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
        window: frames that the model sees at once of a longer film, see `windowed`; 0 is all of them.
        window_overlap: how many of them two windows have in common at least.
        window_of: what sees a film in windows: the whole network, or its attention along time alone, see `AlongTime`.
        free_init: how often a film is sampled again from its own low frequencies, see `started_over`.
        free_init_filter: what is kept of them, see `low_pass`.
        free_init_space: above 0 to 1, where that filter stops along height and width; 1 is the highest frequency.
        free_init_time: the same along time.
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
    window: int = 0
    window_overlap: int = 8
    window_of: WindowOf = "network"
    free_init: int = 0
    free_init_filter: FreeInitFilter = "butterworth"
    free_init_space: float = 0.25
    free_init_time: float = 0.25

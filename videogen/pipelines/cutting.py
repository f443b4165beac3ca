"""What a denoiser is told of a part of a film: its condition, cut along time."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from videogen.denoiser import Condition, Denoiser

#: the axis of time of the condition's fields that have one; a mask of frames (B, T) has no channels before it
TIME_AXES = {"known": 2, "known_mask": 2, "valid": 1}
#: the fields that a film has as a whole
WHOLE = frozenset({"text", "text_mask", "pooled", "fps", "guidance", "size"})


def cut_condition(denoiser: Denoiser, condition: Condition, window: slice, frames: int) -> Condition:
    """What the denoiser is told of a window; the condition itself where nothing in it has an axis of time.

    Args:
        window: the latent frames that the denoiser sees.
        frames: how many the film has.

    Raises:
        ValueError: a field that isn't known to have such an axis or none; a window without a known frame, for a model
            that can't do without.
    """
    cut: dict[str, Any] = {}
    for name, value in condition.given().items():
        if name in TIME_AXES:
            axis = 1 if name == "known_mask" and value.ndim == 2 else TIME_AXES[name]
            cut[name] = value.narrow(axis, window.start, window.stop - window.start)
        elif name == "image":
            cut |= _image(denoiser, value, window, frames)
        elif name not in WHOLE:
            raise ValueError(f"condition.{name} can't be cut into windows: set window=0, or take task=extend")
    _check_known(denoiser, cut, window)
    return dataclasses.replace(condition, **cut) if cut else condition


def _image(denoiser: Denoiser, tokens: Tensor, window: slice, frames: int) -> dict[str, Tensor]:
    """A window's part of image tokens (B, L, D), if each frame has its own; those of an image are the whole film's."""
    each: int = getattr(denoiser, "image_tokens_per_frame", 0)
    if not each or tokens.shape[1] != frames * each:
        return {}
    return {"image": tokens[:, window.start * each : window.stop * each]}


def _check_known(denoiser: Denoiser, cut: dict[str, Tensor], window: slice) -> None:
    mask = cut.get("known_mask")
    if "known" in getattr(denoiser, "required", frozenset()) and mask is not None and not mask.any():
        raise ValueError(
            f"latent frames {window.start} to {window.stop - 1} are a window of which nothing is known, and this model "
            "animates an image: set window=0, or take task=extend, whose samples all begin with known frames"
        )

"""Published schedulers of rectified flows: Euler, Heun, and the consistency steps."""

from __future__ import annotations

from typing import Any

from videogen.checkpoints.schedulers.common import levels
from videogen.checkpoints.schedulers.fields import Fields, PublishedScheduler

GRID = "flow_match"
CLOCK = (
    "invert_sigmas: the network there is told how much data there is, from 0 to 1000, and predicts data minus noise; "
    "the denoiser's own preset says so"
)


def flow_match_euler(fields: Fields) -> PublishedScheduler:
    """FlowMatchEulerDiscreteScheduler; its stochastic sampling is that of consistency models."""
    moved = _shift(fields)
    prediction, remarks = _direction(fields)
    terminal, name = fields.take("shift_terminal", None) or 0.0, levels(fields) or "grid"
    if fields.take("stochastic_sampling", False):
        return _consistency(fields, moved, prediction, terminal, name, remarks)
    knobs = {"prediction": prediction, "curve": GRID, **moved, "shift_terminal": terminal, "levels": name}
    return PublishedScheduler(part="rectified_flow", knobs=knobs, remarks=remarks)


def flow_match_heun(fields: Fields) -> PublishedScheduler:
    """FlowMatchHeunDiscreteScheduler; of N steps it takes 2 N - 1 predictions, and so does ours."""
    fields.require("num_train_timesteps", 1000)
    knobs = {"prediction": "flow", "method": "heun", "curve": GRID, "shift": fields.take("shift", 1.0)}
    return PublishedScheduler(part="rectified_flow", knobs=knobs)


def flow_match_lcm(fields: Fields) -> PublishedScheduler:
    """FlowMatchLCMScheduler."""
    fields.require("scale_factors", None, "all steps are of one size")
    fields.idle("upscale_mode")
    moved = _shift(fields)
    prediction, remarks = _direction(fields)
    terminal, name = fields.take("shift_terminal", None) or 0.0, levels(fields) or "grid"
    return _consistency(fields, moved, prediction, terminal, name, remarks)


def _consistency(
    fields: Fields, moved: dict[str, Any], prediction: str, terminal: float, name: str, remarks: tuple[str, ...]
) -> PublishedScheduler:
    """Jumps to x0 and back up with fresh noise, without a boundary."""
    if terminal or name != "grid":
        raise fields.error("shift_terminal, use_*_sigmas", (terminal, name), "random steps have the plain times")
    knobs = {"spacing": GRID, **moved, "original_steps": 0, "boundary_scale": 0.0}
    noise = {"prediction": prediction}
    return PublishedScheduler(part="lcm", knobs=knobs, noise="rectified_flow", noise_knobs=noise, remarks=remarks)


def _direction(fields: Fields) -> tuple[str, tuple[str, ...]]:
    return ("flow_neg", (CLOCK,)) if fields.take("invert_sigmas", False) else ("flow", ())


def _shift(fields: Fields) -> dict[str, Any]:
    """A fixed shift, or one by the number of tokens, whose size is the denoiser's patch."""
    fields.require("num_train_timesteps", 1000)
    shift, dynamic = fields.take("shift", 1.0), fields.take("use_dynamic_shifting", False)
    tokens = fields.take("base_image_seq_len", 256), fields.take("max_image_seq_len", 4096)
    ends = fields.take("base_shift", 0.5), fields.take("max_shift", 1.15)
    kind = fields.take("time_shift_type", "exponential")
    if not dynamic:
        return {"shift": shift}
    if kind != "exponential":
        raise fields.error("time_shift_type", kind, "there is 'exponential' alone")
    return {"shift_by": "tokens", "token_range": tokens, "shift_range": ends}

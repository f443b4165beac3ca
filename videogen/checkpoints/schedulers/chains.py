"""Published schedulers that bring their chain of noising steps: DDPM, DDIM and CogVideoX's DDIM."""

from __future__ import annotations

from typing import Any

from videogen.checkpoints.schedulers.common import BETAS, LATENT_BETAS, chain, clipping, offset
from videogen.checkpoints.schedulers.fields import Fields, PublishedScheduler

SPACINGS = {name: name for name in ("leading", "trailing", "linspace")}
VARIANCES = {
    "fixed_small": "fixed_small",
    # its logarithm is taken and undone
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "learned_range": "learned_range",
}


def ddpm(fields: Fields) -> PublishedScheduler:
    """DDPMScheduler."""
    knobs = {
        **chain(fields, names={**BETAS, "sigmoid": "sigmoid"}),
        **spacing(fields),
        **clipping(fields, clips=True, thresholds=True),
        "variance": fields.one_of("variance_type", "fixed_small", VARIANCES),
        "noisy_end": True,
    }
    return PublishedScheduler(part="ddpm", knobs=knobs)


def ddim(fields: Fields) -> PublishedScheduler:
    """DDIMScheduler; eta is none of its settings, but its caller's."""
    knobs = {
        **chain(fields),
        **spacing(fields),
        **clipping(fields, clips=True, thresholds=True),
        "set_alpha_to_one": fields.take("set_alpha_to_one", True),
        "clip_noise": False,
    }
    return PublishedScheduler(part="ddim", knobs=knobs, remarks=strides(knobs["timestep_spacing"]))


def cogvideox_ddim(fields: Fields) -> PublishedScheduler:
    """CogVideoXDDIMScheduler, which takes bounds of x0 and never applies them."""
    fields.idle("clip_sample", "clip_sample_range", "sample_max_value")
    knobs = {
        **chain(fields, LATENT_BETAS),
        **spacing(fields),
        "snr_shift": fields.take("snr_shift_scale", 3.0),
        "set_alpha_to_one": fields.take("set_alpha_to_one", True),
    }
    return PublishedScheduler(part="ddim", knobs=knobs, remarks=strides(knobs["timestep_spacing"]))


def spacing(fields: Fields) -> dict[str, Any]:
    """Which times a chain visits."""
    name = fields.one_of("timestep_spacing", "leading", SPACINGS)
    return {"timestep_spacing": name, "steps_offset": offset(fields, name)}


def strides(spacing: str) -> tuple[str, ...]:
    """What to say of a scheduler whose steps go N // steps down, whatever the next time is."""
    if spacing == "leading":
        return ()
    return (
        f"with a spacing of {spacing!r} each published step goes down by training steps // steps, here to the time "
        "that is asked for next: the same for trailing where the number of steps divides that of the training steps",
    )

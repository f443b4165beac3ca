"""Published solvers of one step: Euler, its ancestral kin, Heun; and PNDM and LCM."""

from __future__ import annotations

from typing import Any

from videogen.checkpoints.schedulers.chains import SPACINGS, strides
from videogen.checkpoints.schedulers.common import (
    HIGHEST,
    LATENT_BETAS,
    LOWEST,
    PIXEL_BETAS,
    TERMINAL_SIGNAL,
    chain,
    clipping,
    levels,
    offset,
    to_data,
)
from videogen.checkpoints.schedulers.fields import Fields, PublishedScheduler
from videogen.kinds import registry

#: linspace isn't rounded in these
UNROUNDED = {"linspace": "fractional", "leading": "leading", "trailing": "trailing"}


def euler(fields: Fields) -> PublishedScheduler:
    """EulerDiscreteScheduler; Stable Video Diffusion's continuous times are those of edm."""
    fields.require("interpolation_type", "linear", "log_linear tells the network other times than those of its noise")
    noise = chain(fields, terminal_signal=TERMINAL_SIGNAL)
    spacing = fields.take("timestep_spacing", "linspace")
    low, high = fields.take("sigma_min", None), fields.take("sigma_max", None)
    continuous = fields.one_of("timestep_type", "discrete", {"discrete": False, "continuous": True})
    name = levels(fields)
    end = to_data(fields)
    if continuous and noise["prediction"] == "v":
        return _continuous(fields, name, low, high, end)
    knobs = _grid(fields, spacing, name, noise, low, high)
    return PublishedScheduler(part="euler", knobs={**knobs, "to_data": end}, noise="ddpm", noise_knobs=noise)


def euler_ancestral(fields: Fields) -> PublishedScheduler:
    """EulerAncestralDiscreteScheduler."""
    noise = chain(fields, terminal_signal=TERMINAL_SIGNAL)
    knobs = _grid(fields, fields.take("timestep_spacing", "linspace"), "", noise, None, None)
    return PublishedScheduler(part="euler_ancestral", knobs=knobs, noise="ddpm", noise_knobs=noise)


def heun(fields: Fields) -> PublishedScheduler:
    """HeunDiscreteScheduler; of N steps it takes 2 N - 1 predictions, and so does ours."""
    noise = chain(fields, (*LATENT_BETAS[:2], "linear"), rescales=False)
    knobs = _grid(fields, fields.take("timestep_spacing", "linspace"), levels(fields), noise, None, None)
    knobs |= clipping(fields, clips=False, thresholds=False)
    return PublishedScheduler(part="heun", knobs=knobs, noise="ddpm", noise_knobs=noise)


def pndm(fields: Fields) -> PublishedScheduler:
    """PNDMScheduler."""
    noise = chain(fields, PIXEL_BETAS, rescales=False)
    spacing = fields.one_of("timestep_spacing", "leading", SPACINGS)
    skips = fields.take("skip_prk_steps", False)
    remarks = list(strides(spacing))
    if noise["prediction"] != "epsilon":
        remarks.append(f"of {noise['prediction']} the published code combines predictions of several times, here noise")
    if not skips:
        remarks.append(
            "where training steps // steps is odd, the middle of the published Runge-Kutta steps is half a training "
            "step off"
        )
    knobs = {
        "spacing": spacing,
        "steps_offset": offset(fields, spacing),
        "to_data": fields.take("set_alpha_to_one", False),
        "nodes": "steps",
        "warm_up": "twice" if skips else "runge_kutta",
    }
    return PublishedScheduler(part="pndm", knobs=knobs, noise="ddpm", noise_knobs=noise, remarks=tuple(remarks))


def lcm(fields: Fields) -> PublishedScheduler:
    """LCMScheduler, whose times are some of those that the model was distilled on."""
    fields.idle("set_alpha_to_one", "steps_offset", "timestep_spacing")
    noise = chain(fields, LATENT_BETAS)
    number, original = noise["num_train_timesteps"], fields.take("original_inference_steps", 50)
    if number != 1000 or number % original:
        raise fields.error("original_inference_steps", (original, number), "a number that divides 1000 training steps")
    knobs = {
        "original_steps": original,
        "boundary_scale": fields.take("timestep_scaling", 10.0),
        **clipping(fields, clips=False, thresholds=True),
    }
    return PublishedScheduler(part="lcm", knobs=knobs, noise="ddpm", noise_knobs=noise)


def _grid(
    fields: Fields, spacing: str, spaced: str, noise: dict[str, Any], low: float | None, high: float | None
) -> dict[str, Any]:
    """The knobs of a walk over a chain: times, or noise levels from the first of these times to the last."""
    if spacing not in UNROUNDED:
        raise fields.error("timestep_spacing", spacing, f"there is {', '.join(UNROUNDED)}")
    shift = offset(fields, spacing)
    if not spaced:
        return {"spacing": UNROUNDED[spacing], "steps_offset": shift}
    ends = {"sigma_min": LOWEST, "sigma_max": HIGHEST}
    if (low is None) != (high is None) and spacing != "linspace":
        raise fields.error("sigma_min, sigma_max", (low, high), "both or neither")
    if low is not None or high is not None:
        limits = registry("scheduler").build("ddpm", **noise).limits
        given = low or limits[0], high or limits[1]
        if given[0] < limits[0] or given[1] > limits[1]:
            raise fields.error("sigma_min, sigma_max", given, f"within the chain's own {limits}")
        ends = {"sigma_min": given[0], "sigma_max": given[1]}
    within = spacing != "linspace" and low is None
    knobs = {"spacing": spaced, **ends}
    return knobs | ({"between": spacing, "steps_offset": shift} if within else {})


def _continuous(fields: Fields, spaced: str, low: float | None, high: float | None, end: bool) -> PublishedScheduler:
    """Times that are a quarter of the logarithm of sigma, as a network of edm is told."""
    fields.idle("steps_offset")
    if not spaced or low is None or high is None:
        raise fields.error("timestep_type", "continuous", "with spaced noise levels, sigma_min and sigma_max")
    noise = {"prediction": "v", "sigma_min": low, "sigma_max": high, "sigma_data": 1.0}
    knobs = {"spacing": spaced, "sigma_min": low, "sigma_max": high, "to_data": end}
    return PublishedScheduler(part="euler", knobs=knobs, noise="edm", noise_knobs=noise)

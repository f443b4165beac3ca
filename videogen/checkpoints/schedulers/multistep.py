"""Published multistep solvers: DPM-Solver++ on a chain, a flow or EDM's noise, CogVideoX's of it, and UniPC."""

from __future__ import annotations

from typing import Any

from videogen.checkpoints.schedulers.chains import SPACINGS, spacing, strides
from videogen.checkpoints.schedulers.common import (
    HIGHEST,
    LATENT_BETAS,
    LOWEST,
    PREDICTIONS,
    TERMINAL_SIGNAL,
    chain,
    clipping,
    levels,
    offset,
    to_data,
)
from videogen.checkpoints.schedulers.edm import noise_of_edm
from videogen.checkpoints.schedulers.fields import Fields, PublishedScheduler
from videogen.kinds import registry

KINDS = {"dpmsolver++": "ode", "deis": "ode", "sde-dpmsolver++": "sde"}
SECOND = {"midpoint": "midpoint", "heun": "heun", "logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"}
#: of a flow a v is none of ours: theirs takes alpha and sigma for a circle's
FLOW_PREDICTIONS = {key: name for key, name in PREDICTIONS.items() if name != "v"} | {"flow_prediction": "flow"}
SIGN_SLIP = "the published third order of the SDE counts the curvature with a wrong sign, which isn't followed here"


def dpm_solver(fields: Fields) -> PublishedScheduler:
    """DPMSolverMultistepScheduler."""
    if fields.take("lambda_min_clipped", None) not in (None, float("-inf"), "-inf", "-Infinity"):
        raise fields.error("lambda_min_clipped", fields.config["lambda_min_clipped"], "there is -inf alone")
    fields.require("variance_type", None)
    uniform = fields.take("use_lu_lambdas", False)
    knobs, remarks = _method(fields)
    noise, walk, flow = _walk(fields, "flow_dpm", "exponential" if uniform else "", {})
    knobs = {**knobs, **walk, **clipping(fields, clips=None, thresholds=True)}
    part = "rectified_flow" if flow else "ddpm"
    return PublishedScheduler(part="dpm_solver", knobs=knobs, noise=part, noise_knobs=noise, remarks=remarks)


def edm_dpm_solver(fields: Fields) -> PublishedScheduler:
    """EDMDPMSolverMultistepScheduler."""
    noise, walk = noise_of_edm(fields)
    knobs, remarks = _method(fields)
    knobs = {**knobs, **walk, **clipping(fields, clips=None, thresholds=True, unit=noise["sigma_data"])}
    return PublishedScheduler(part="dpm_solver", knobs=knobs, noise="edm", noise_knobs=noise, remarks=remarks)


def cogvideox_dpm(fields: Fields) -> PublishedScheduler:
    """CogVideoXDPMScheduler: second order of the SDE, whose bounds of x0 are never applied."""
    fields.idle("clip_sample", "clip_sample_range", "sample_max_value")
    noise = {**chain(fields, LATENT_BETAS), "snr_shift": fields.take("snr_shift_scale", 3.0)}
    visited = spacing(fields)
    knobs = {
        **{"order": 2, "kind": "sde", "second": "midpoint", "euler_at_final": True},
        **{"spacing": visited["timestep_spacing"], "steps_offset": visited["steps_offset"]},
        "to_data": fields.take("set_alpha_to_one", True),
    }
    remarks = strides(knobs["spacing"])
    return PublishedScheduler(part="dpm_solver", knobs=knobs, noise="ddpm", noise_knobs=noise, remarks=remarks)


def unipc(fields: Fields) -> PublishedScheduler:
    """UniPCMultistepScheduler."""
    fields.require("predict_x0", True, "there is the method on x0 alone")
    fields.require("solver_p", None)
    fields.require("disable_corrector", [], "the corrector is on for all steps, or off with scheduler.corrector=false")
    fields.require("shift_terminal", None, "scheduler.shift_terminal belongs to rectified_flow")
    ends = {"sigma_min": fields.take("sigma_min", None), "sigma_max": fields.take("sigma_max", None)}
    noise, walk, flow = _walk(fields, "flow_unipc", "", ends)
    knobs = {
        "order": fields.take("solver_order", 2),
        "variant": fields.one_of("solver_type", "bh2", {"bh1": "bh1", "bh2": "bh2"}),
        "lower_order_final": fields.take("lower_order_final", True),
        **walk,
        **clipping(fields, clips=None, thresholds=True),
    }
    part = "rectified_flow" if flow else "ddpm"
    return PublishedScheduler(part="unipc", knobs=knobs, noise=part, noise_knobs=noise)


def _method(fields: Fields) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The knobs of DPM-Solver++ itself."""
    knobs = {
        "order": fields.take("solver_order", 2),
        "kind": fields.one_of("algorithm_type", "dpmsolver++", KINDS),
        "second": fields.one_of("solver_type", "midpoint", SECOND),
        "curvature": 0.5,
        "lower_order_final": fields.take("lower_order_final", True),
        "euler_at_final": fields.take("euler_at_final", False),
    }
    return knobs, (SIGN_SLIP,) if knobs["order"] == 3 and knobs["kind"] == "sde" else ()


def _walk(
    fields: Fields, flow_grid: str, uniform: str, ends: dict[str, float | None]
) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """The knobs of the noise schedule and of the times on it, and whether that is a flow."""
    spaced = levels(fields) or uniform
    end, shift = to_data(fields), fields.take("flow_shift", 1.0)
    fields.require("time_shift_type", "exponential")
    dynamic = fields.take("use_dynamic_shifting", False)
    name = fields.one_of("timestep_spacing", "linspace", SPACINGS)
    steps_offset = offset(fields, name)
    if not fields.take("use_flow_sigmas", False):
        noise = chain(fields, terminal_signal=TERMINAL_SIGNAL)
        if not spaced:
            one_more = name in ("linspace", "leading")
            return noise, {"spacing": name, "steps_offset": steps_offset, "one_more": one_more, "to_data": end}, False
        return noise, {"spacing": spaced, "to_data": end, **_between(fields, noise, ends)}, False
    fields.idle("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "rescale_betas_zero_snr")
    fields.require("trained_betas", None)
    if fields.config.get("num_train_timesteps", 1000) != 1000:
        raise fields.error("num_train_timesteps", fields.config["num_train_timesteps"], "published grids have 1000")
    flow = {"prediction": fields.one_of("prediction_type", "epsilon", FLOW_PREDICTIONS)}
    if spaced or not end:
        raise fields.error("use_flow_sigmas", True, "with even times and final_sigmas_type='zero'")
    moved = {"shift_by": "tokens"} if dynamic else {"shift": shift}
    return flow, {"spacing": flow_grid, **moved}, True


def _between(fields: Fields, noise: dict[str, Any], ends: dict[str, float | None]) -> dict[str, float]:
    """The noise levels that spaced ones lie between: the chain's, or those given within them."""
    low, high = registry("scheduler").build("ddpm", **noise).limits
    given = ends.get("sigma_min") or LOWEST, ends.get("sigma_max") or HIGHEST
    if LOWEST < given[0] < low or high < given[1] < HIGHEST:
        raise fields.error("sigma_min, sigma_max", given, f"within the chain's own {(low, high)}")
    return {"sigma_min": given[0], "sigma_max": given[1]}

"""Which settings of published schedulers are compared: products of options, a table a class."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

RANGE = {"beta_start": 0.00085, "beta_end": 0.012}
BETAS = ["linear", "scaled_linear", "squaredcos_cap_v2"]
PREDICTIONS = ["epsilon", "sample", "v_prediction"]
SPACINGS = ["trailing", "linspace", "leading"]
#: how noise levels are spaced, if they are
LEVELS: list[dict[str, bool]] = [{}, *({f"use_{name}_sigmas": True} for name in ("karras", "exponential", "beta"))]
#: an offset that other spacings ignore
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
THRESHOLDING = [
    {"thresholding": True},
    {"thresholding": True, "dynamic_thresholding_ratio": 0.6, "sample_max_value": 1.5},
    {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 100.0},
]
ENDS = [{}, {"final_sigmas_type": "sigma_min"}]
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One case: a class, its settings, the number of steps, what its step is called with, what its caller's knobs are.

    `size` is that of the latents, where times are shifted by it.
    """

    name: str
    config: dict[str, Any]
    steps: int = 8
    call: dict[str, Any] = dataclasses.field(default_factory=dict)
    size: tuple[int, int, int] | None = None

    def __str__(self) -> str:
        told = [f"{key}={value}" for key, value in {**self.config, **self.call}.items() if key not in RANGE]
        return ",".join([self.name, *told, f"{self.steps} steps"])


def product(name: str, *options: list[dict[str, Any]], steps: tuple[int, ...] = (8,), **single: list[Any]) -> list[Row]:
    """All combinations of groups of settings, and of single ones."""
    groups = [*options, *([{key: value} for value in values] for key, values in single.items())]
    merged = [{key: value for group in chosen for key, value in group.items()} for chosen in itertools.product(*groups)]
    return [Row(name, {**RANGE, **config}, number) for config in merged for number in steps]


def called(rows: list[Row], **call: Any) -> list[Row]:
    return [dataclasses.replace(row, call=call) for row in rows]


def without_betas(rows: list[Row]) -> list[Row]:
    """For classes that know none."""
    kept = [{key: value for key, value in row.config.items() if key not in RANGE} for row in rows]
    return [dataclasses.replace(row, config=config) for row, config in zip(rows, kept, strict=True)]


def _chains() -> list[Row]:
    base = {"clip_sample": [False], "beta_schedule": BETAS, "prediction_type": PREDICTIONS}
    # their steps go N // steps down, which linspace's do where every step is visited alone
    grids = [{"timestep_spacing": "trailing"}, {"timestep_spacing": "leading"}, LEADING]
    every = [{"timestep_spacing": "linspace", "num_train_timesteps": 12}]
    rows = product("DDIM", grids, **base, set_alpha_to_one=[True, False])
    rows += called(product("DDIM", grids, **base), eta=0.6) + product("DDIM", every, **base, steps=(12,))
    clips = [{"clip_sample_range": 0.7}, *({"clip_sample": False, **each} for each in THRESHOLDING)]
    rows += product("DDIM", clips, prediction_type=PREDICTIONS, beta_schedule=BETAS[:2])
    rows += called(product("DDIM", clips, prediction_type=PREDICTIONS), eta=1.0)
    free = {"clip_sample": [False], "rescale_betas_zero_snr": [True], "prediction_type": PREDICTIONS[1:]}
    rows += product("DDIM", beta_schedule=BETAS, timestep_spacing=["trailing"], **free)
    shifted = {"snr_shift_scale": [1.0, 3.0], "prediction_type": PREDICTIONS[1:], "timestep_spacing": ["trailing"]}
    for name in ("CogVideoXDDIM", "CogVideoXDPM"):
        rows += product(name, **shifted, rescale_betas_zero_snr=[True, False], set_alpha_to_one=[True], steps=(8, 20))
        rows += product(name, beta_schedule=BETAS, set_alpha_to_one=[True, False], prediction_type=PREDICTIONS)
    betas = [*BETAS, "sigmoid"]
    variances = {"variance_type": ["fixed_small", "fixed_small_log", "fixed_large"]}
    grids = [{"timestep_spacing": each} for each in SPACINGS]
    rows += product("DDPM", grids, clip_sample=[False], beta_schedule=betas, prediction_type=PREDICTIONS, **variances)
    rows += product("DDPM", [LEADING], clip_sample=[False], **variances, steps=(8, 30))
    rows += product("DDPM", clips, prediction_type=PREDICTIONS)
    rows += product("DDPM", timestep_spacing=["trailing"], **free)
    return rows


def _one_step() -> list[Row]:
    grids = [{"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace"}, LEADING]
    rows = product("EulerDiscrete", grids, LEVELS, beta_schedule=BETAS, prediction_type=PREDICTIONS)
    rows += product("EulerDiscrete", grids, ENDS, steps=(7, 20), prediction_type=["epsilon"])
    ends = [{"sigma_min": 0.1, "sigma_max": 10.0}]
    rows += product("EulerDiscrete", grids, LEVELS[1:], ends, prediction_type=["v_prediction"])
    svd = [{"timestep_type": "continuous", "sigma_min": 0.002, "sigma_max": 700.0, **LEADING}]
    rows += product("EulerDiscrete", svd, LEVELS[1:], steps=(8, 25), prediction_type=["v_prediction"])
    zero = {"rescale_betas_zero_snr": [True], "prediction_type": PREDICTIONS}
    rows += product("EulerDiscrete", grids[:2], beta_schedule=BETAS, **zero)
    for each in (BETAS, BETAS[:1]):
        rescale = [False] if each is BETAS else [True]
        options = {"beta_schedule": each, "prediction_type": [PREDICTIONS[0], PREDICTIONS[2]]}
        rows += product("EulerAncestralDiscrete", grids, **options, rescale_betas_zero_snr=rescale, steps=(7, 20))
    rows += product("HeunDiscrete", grids, LEVELS, beta_schedule=BETAS, prediction_type=PREDICTIONS)
    rows += product("HeunDiscrete", grids, clip_sample=[True], clip_sample_range=[0.8], prediction_type=PREDICTIONS)
    # of a v theirs combines predictions of several times as if they were noise
    grids = [{"timestep_spacing": "trailing"}, {"timestep_spacing": "leading"}, LEADING]
    warm = {"skip_prk_steps": [True, False], "set_alpha_to_one": [True, False]}
    rows += product("PNDM", grids, beta_schedule=BETAS, **warm, steps=(10, 20))
    lcm = {"prediction_type": PREDICTIONS, "beta_schedule": BETAS}
    rows += product("LCM", **lcm, steps=(1, 4, 8))
    rows += product("LCM", **lcm, timestep_scaling=[3.0], original_inference_steps=[25, 100], steps=(4,))
    rows += product("LCM", [{"clip_sample": True}, *THRESHOLDING], prediction_type=PREDICTIONS, steps=(4,))
    return rows + product("LCM", prediction_type=PREDICTIONS[1:], rescale_betas_zero_snr=[True], steps=(4,))


def _multistep() -> list[Row]:
    grids = [{"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace"}, LEADING]
    # theirs of the third order of the SDE has a wrong sign
    kinds = [{"solver_order": order} for order in (1, 2, 3)] + [{"solver_order": 2, "solver_type": "heun"}]
    kinds += [{"algorithm_type": "sde-dpmsolver++", "solver_order": 1}, {"algorithm_type": "sde-dpmsolver++"}]
    kinds += [{"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}]
    levels = [*LEVELS[1:], {"use_lu_lambdas": True}]
    name = "DPMSolverMultistep"
    rows = product(name, grids, kinds, prediction_type=PREDICTIONS)
    rows += product(name, levels, kinds, prediction_type=PREDICTIONS[:2])
    rows += product(name, grids, kinds, ENDS, beta_schedule=BETAS[:1], steps=(20,))
    rows += product(name, kinds, ENDS, beta_schedule=BETAS)
    rows += product(name, kinds, [{"lower_order_final": False}, {"euler_at_final": True}], ENDS, steps=(8, 20))
    rows += product(name, THRESHOLDING, kinds[:3], prediction_type=PREDICTIONS)
    rows += product(name, grids, kinds, rescale_betas_zero_snr=[True], prediction_type=["v_prediction"])
    rows += product(name, [FLOW], kinds, flow_shift=[1.0, 3.0, 7.0], steps=(8, 20))
    flows = [{"use_flow_sigmas": True, "prediction_type": each} for each in ("sample", "epsilon")]
    rows += product(name, flows, kinds, flow_shift=[3.0])
    sized = {"use_flow_sigmas": True, "use_dynamic_shifting": True, "prediction_type": "flow_prediction"}
    rows += [dataclasses.replace(row, size=(5, 16, 24)) for row in product(name, [sized], kinds)]
    data = [
        {"sigma_data": each, "sigma_schedule": spaced} for each in (0.5, 1.0) for spaced in ("karras", "exponential")
    ]
    signs = [PREDICTIONS[0], PREDICTIONS[2]]
    edm = product("EDMDPMSolverMultistep", data, kinds, prediction_type=signs, steps=(8, 20))
    edm += product("EDMDPMSolverMultistep", data[:1], kinds, THRESHOLDING)
    edm += product("EDMEuler", data, ENDS, prediction_type=signs, rho=[7.0, 5.0])
    return rows + without_betas(edm)


def _unipc() -> list[Row]:
    grids = [{"timestep_spacing": "trailing"}, {"timestep_spacing": "linspace"}, LEADING]
    orders = [{"solver_order": order} for order in (1, 2, 3)]
    # theirs of bh1 is infinity times 0 in a step to data
    kinds = [{**order, **end} for order in orders for end in ENDS]
    kinds += [{**order, "solver_type": "bh1", "final_sigmas_type": "sigma_min"} for order in orders]
    name = "UniPCMultistep"
    rows = product(name, grids, kinds, prediction_type=PREDICTIONS)
    # of karras on the cosine schedule theirs rounds two times to one, and begins at the second
    rows += product(name, LEVELS[1:], orders, prediction_type=PREDICTIONS, beta_schedule=BETAS[:2])
    rows += product(name, LEVELS[2:], orders, prediction_type=PREDICTIONS, beta_schedule=BETAS[2:])
    # theirs of a higher order than 1 has no number in a step to data
    rows += product(name, grids, kinds, steps=(20,))
    rows += product(name, grids, orders, ENDS[1:], lower_order_final=[False], steps=(8, 20))
    rows += product(name, THRESHOLDING, orders, prediction_type=PREDICTIONS)
    rows += product(name, orders, rescale_betas_zero_snr=[True], timestep_spacing=["trailing"], beta_schedule=BETAS)
    rows += product(name, LEVELS[1:], orders, sigma_min=[0.1], sigma_max=[10.0])
    rows += product(name, [FLOW], orders, flow_shift=[1.0, 3.0, 5.0, 8.0], steps=(8, 20))
    sized = {"use_flow_sigmas": True, "use_dynamic_shifting": True, "prediction_type": "flow_prediction"}
    return rows + [dataclasses.replace(row, size=(5, 16, 24)) for row in product(name, [sized], orders)]


def _flows() -> list[Row]:
    shifts = {"shift": [1.0, 3.0, 7.0]}
    ends = [{}, {"shift_terminal": 0.1}]
    rows = product("FlowMatchEulerDiscrete", LEVELS, ends, **shifts, invert_sigmas=[False], steps=(8, 30))
    rows += product("FlowMatchEulerDiscrete", **shifts, steps=(1, 2))
    rows += product("FlowMatchEulerDiscrete", stochastic_sampling=[True], **shifts, steps=(4, 8))
    rows += product("FlowMatchEulerDiscrete", LEVELS[:1], ends, **shifts, invert_sigmas=[True])
    rows += product("FlowMatchHeunDiscrete", **shifts, steps=(8, 20))
    rows += product("FlowMatchLCM", **shifts, steps=(4, 8))
    ltx = {"base_shift": 0.95, "max_shift": 2.05, "base_image_seq_len": 1024, "max_image_seq_len": 4096}
    sized = [{"use_dynamic_shifting": True, **each} for each in ({}, ltx)]
    moved = product("FlowMatchEulerDiscrete", sized, LEVELS, ends, steps=(8, 30)) + product("FlowMatchLCM", sized)
    rows += [dataclasses.replace(row, size=(5, 16, 24)) for row in moved]
    return without_betas(rows)


ROWS = [*_chains(), *_one_step(), *_multistep(), *_unipc(), *_flows()]

"""Solvers follow diffusers' trajectories, for every option that both have; the tables below are the options."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import pytest
import torch
from torch import Generator, Tensor

from videogen.schedulers import SCHEDULERS, Scheduler
from videogen.schedulers.ddpm import DDPM
from videogen.schedulers.edm import EDM
from videogen.schedulers.rectified_flow import RectifiedFlow

# theirs hands tensors to numpy in a way that numpy will refuse one day
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHAPE, STEPS = (2, 3, 2, 3, 4), 10
PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction", "flow": "flow_prediction"}
BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
RANGE = {"beta_start": 0.00085, "beta_end": 0.012}
# they hold their noise levels, and some the sample, in float32: ten steps of its rounding
CLOSE = 5e-6


def model(sample: Tensor, ratio: Tensor) -> Tensor:
    """Some smooth network: what it predicts doesn't matter, that it depends on all it is given does."""
    return 0.3 * sample + 0.2 * torch.sin(3 * torch.atan(ratio)) + 0.5 * torch.tanh(sample.flip(-1))


def draws(seed: int = 7) -> Callable[[], Tensor]:
    source = Generator().manual_seed(seed)
    return lambda: torch.randn(SHAPE, generator=source, dtype=torch.float64)


def walk(scheduler: Scheduler, start: Tensor, times: Tensor) -> list[Tensor]:
    def network(x: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = scheduler.noise.alpha_sigma(time)
        return model(x, sigma / alpha)

    return list(scheduler.walk(network, start, times, draws()))


def ratios(scheduler: Scheduler, times: Tensor) -> Tensor:
    alpha, sigma = scheduler.noise.alpha_sigma(times)
    return sigma / alpha


def check(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert float((x - y).abs().max() / y.abs().max()) <= CLOSE


def chain(prediction: str, beta: str = "scaled_linear") -> DDPM:
    return DDPM(prediction=prediction, beta_schedule=beta, **RANGE)


def theirs(kind: str, prediction: str, beta: str = "scaled_linear", **config: Any) -> Any:
    told = {"prediction_type": PREDICTIONS[prediction], "beta_schedule": BETAS[beta], **RANGE, **config}
    reference = getattr(diffusers, kind)(**told)
    reference.set_timesteps(STEPS)
    return reference


def table(**options: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


def each(*tables: list[dict[str, Any]]) -> pytest.MarkDecorator:
    """All rows of all tables; each fourth is a quick test."""
    rows = [row for rows in tables for row in rows]
    names = [",".join(f"{key}={value}" for key, value in row.items()) for row in rows]
    marks = [[] if index % 4 == 0 else [pytest.mark.slow] for index in range(len(rows))]
    told = zip(rows, names, marks, strict=True)
    return pytest.mark.parametrize("options", [pytest.param(row, id=name, marks=mark) for row, name, mark in told])


# in the scale in which alpha is 1 --------------------------------------------------------------------------------


def ve_walk(reference: Any, start: Tensor, calls: int = 1) -> list[Tensor]:
    """Their states in our scale, after every `calls`-th step; `start` is in ours."""
    sigmas = reference.sigmas
    sample, states = start * (1 + sigmas[0] ** 2).sqrt(), []
    source = Generator().manual_seed(7)
    drawn = {"generator": source} if "Ancestral" in type(reference).__name__ else {}
    for index, time in enumerate(reference.timesteps):
        scaled = reference.scale_model_input(sample, time)
        sample = reference.step(model(scaled, sigmas[index]), time, sample, **drawn).prev_sample
        states.append(sample / (1 + sigmas[index + 1] ** 2).sqrt())
    # Heun's two calls a step, but one in the last
    return states[calls - 1 :: calls] + (states[-1:] if calls > 1 else [])


@each(
    table(kind=["euler"], prediction=["epsilon", "x0", "v"], spacing=["trailing", "linspace", "leading"], beta=BETAS),
    table(kind=["euler"], prediction=["epsilon", "v"], spacing=["karras", "exponential"], beta=["scaled_linear"]),
    table(
        kind=["heun"], prediction=["epsilon", "v"], spacing=["trailing", "linspace", "karras"], beta=["scaled_linear"]
    ),
    table(kind=["euler_ancestral"], prediction=["epsilon", "v"], spacing=["trailing", "leading"], beta=["linear"]),
)
def test_euler_and_heun(options: dict[str, Any]) -> None:
    kinds = {"euler": "EulerDiscrete", "heun": "HeunDiscrete", "euler_ancestral": "EulerAncestralDiscrete"}
    name, spacing = options["kind"], options["spacing"]
    grid = {"timestep_spacing": spacing if spacing in ("trailing", "leading") else "linspace"}
    if name != "euler_ancestral":
        grid |= {"use_karras_sigmas": spacing == "karras", "use_exponential_sigmas": spacing == "exponential"}
    reference = theirs(f"{kinds[name]}Scheduler", options["prediction"], options["beta"], **grid)
    scheduler = SCHEDULERS.build(name, chain(options["prediction"], options["beta"]), spacing=spacing)
    times = scheduler.timesteps(STEPS)
    calls = 2 if name == "heun" else 1
    same = ratios(scheduler, times)
    # their grid, from float32 products of a thousand factors
    torch.testing.assert_close(torch.cat([reference.sigmas[:-1:calls], same[-1:]]).double(), same, rtol=2e-4, atol=1e-5)
    reference.sigmas = torch.cat([same[:1], same[1:-1].repeat_interleave(calls), same[-1:]])
    start = draws(1)()
    check(walk(scheduler, start, times), ve_walk(reference, start, calls))


# on their own scale -----------------------------------------------------------------------------------------------


def steps(reference: Any, start: Tensor, times: Tensor, **drawn: Any) -> Iterator[Tensor]:
    """Their walk along these ratios of noise and data, or times of a flow."""
    sample = start
    for index, time in enumerate(reference.timesteps):
        sample = reference.step(model(sample, times[index]), time, sample, **drawn).prev_sample
        yield sample


MULTISTEP = {"trailing": {"timestep_spacing": "trailing"}, "karras": {"use_karras_sigmas": True}}
MULTISTEP |= {"exponential": {"use_exponential_sigmas": True}}
KINDS = {"ode": "dpmsolver++", "sde": "sde-dpmsolver++"}


@each(
    table(order=[1, 2, 3], kind=["ode"], second=["midpoint"], prediction=["epsilon", "x0", "v"], spacing=MULTISTEP),
    table(order=[2], kind=["ode"], second=["heun"], prediction=["epsilon", "v"], spacing=["trailing"]),
    table(
        order=[1, 2], kind=["sde"], second=["midpoint", "heun"], prediction=["epsilon", "x0", "v"], spacing=MULTISTEP
    ),
)
def test_dpm_solver(options: dict[str, Any]) -> None:
    order, kind, second, prediction, spacing = options.values()
    reference = theirs(
        "DPMSolverMultistepScheduler",
        prediction,
        algorithm_type=KINDS[kind],
        solver_order=order,
        solver_type=second,
        **MULTISTEP[spacing],
    )
    knobs = {"order": order, "kind": kind, "second": second, "spacing": spacing, "curvature": 0.5}
    scheduler = SCHEDULERS.build("dpm_solver", chain(prediction), **knobs)
    check_multistep(scheduler, reference, kind == "sde")


@each(
    table(
        order=[1, 2, 3], variant=["bh1", "bh2"], corrector=[True, False], prediction=["epsilon"], spacing=["trailing"]
    ),
    table(order=[2, 3], variant=["bh2"], corrector=[True], prediction=["epsilon", "x0", "v"], spacing=MULTISTEP),
)
def test_unipc(options: dict[str, Any]) -> None:
    order, variant, corrector, prediction, spacing = options.values()
    without = [] if corrector else list(range(STEPS))
    reference = theirs(
        "UniPCMultistepScheduler",
        prediction,
        solver_order=order,
        solver_type=variant,
        disable_corrector=without,
        # theirs of bh1 is infinity times 0 in a step to data
        final_sigmas_type="sigma_min" if variant == "bh1" else "zero",
        **MULTISTEP[spacing],
    )
    knobs = {"order": order, "variant": variant, "corrector": corrector, "spacing": spacing}
    check_multistep(
        SCHEDULERS.build("unipc", chain(prediction), **knobs), reference, last=0.0 if variant == "bh1" else -1.0
    )


def check_multistep(scheduler: Scheduler, reference: Any, draws_noise: bool = False, last: float = -1.0) -> None:
    times = scheduler.timesteps(STEPS).clamp(min=last)
    same = ratios(scheduler, times)
    torch.testing.assert_close(reference.sigmas.double(), same, rtol=2e-4, atol=1e-5)
    reference.sigmas, start = same, draws(1)()
    if not draws_noise:
        check(walk(scheduler, start, times), list(steps(reference, start, same)))
        return
    sample, states, fresh = start, [], draws()
    for index, time in enumerate(reference.timesteps):
        predicted = model(sample, same[index])
        sample = reference.step(predicted, time, sample, variance_noise=fresh()).prev_sample
        states.append(sample)
    check(walk(scheduler, start, times), states)


@each(
    table(name=["dpm_solver"], order=[1, 2, 3], shift=[1.0, 5.0]),
    table(name=["unipc"], order=[1, 2, 3], shift=[1.0, 5.0]),
)
def test_multistep_solvers_on_a_flow(options: dict[str, Any]) -> None:
    name, order, shift = options.values()
    kind = {"dpm_solver": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler"}[name]
    reference = theirs(kind, "flow", use_flow_sigmas=True, flow_shift=shift, solver_order=order)
    knobs = {"curvature": 0.5} if name == "dpm_solver" else {}
    scheduler = SCHEDULERS.build(name, RectifiedFlow(), order=order, **knobs)
    # their grids differ from each other, and start at 0.9999 or so: theirs is taken
    times = reference.sigmas.double()
    reference.sigmas, start = times, draws(1)()
    wanted = list(steps(reference, start, times / (1 - times)))
    check(walk(scheduler, start, times), wanted)


# of a v they combine predictions of several times as if they were noise
@each(table(prediction=["epsilon"], spacing=["trailing", "leading"], beta=BETAS))
def test_pndm(options: dict[str, Any]) -> None:
    prediction, spacing, beta = options.values()
    reference = theirs(
        "PNDMScheduler", prediction, beta, skip_prk_steps=True, set_alpha_to_one=True, timestep_spacing=spacing
    )
    scheduler = SCHEDULERS.build("pndm", chain(prediction, beta), spacing=spacing, nodes="steps")
    times = scheduler.timesteps(STEPS)
    reference.alphas_cumprod = scheduler.noise.alpha_sigma(torch.arange(1000.0).double())[0].square()
    start = draws(1)()
    asked = torch.tensor([float(time) for time in reference.timesteps], dtype=torch.float64)
    wanted = list(steps(reference, start, ratios(scheduler, asked)))
    # the first of theirs is the first step before it is made again
    check(walk(scheduler, start, times), wanted[1:])


@each(table(prediction=["epsilon", "x0", "v"], count=[1, 4, 8]))
def test_lcm(options: dict[str, Any]) -> None:
    prediction, count = options.values()
    reference = theirs("LCMScheduler", prediction, clip_sample=False, rescale_betas_zero_snr=False)
    reference.set_timesteps(count)
    scheduler = SCHEDULERS.build("lcm", chain(prediction))
    times = scheduler.timesteps(count)
    assert times[:-1].tolist() == reference.timesteps.tolist()
    reference.alphas_cumprod = scheduler.noise.alpha_sigma(torch.arange(1000.0).double())[0].square()
    start = draws(1)()
    wanted = list(steps(reference, start, ratios(scheduler, times), generator=Generator().manual_seed(7)))
    check(walk(scheduler, start, times), wanted)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_rectified_flow_by_heun(shift: float) -> None:
    reference = diffusers.FlowMatchHeunDiscreteScheduler()
    reference.set_timesteps(STEPS)
    scheduler = RectifiedFlow(method="heun", shift=shift)
    times = scheduler.timesteps(STEPS)
    reference.sigmas = torch.cat([times[:1], times[1:-1].repeat_interleave(2), times[-1:]])
    start = draws(1)()
    states = list(steps(reference, start, reference.sigmas / (1 - reference.sigmas)))
    check(walk(scheduler, start, times), [*states[1::2], states[-1]])


@each(table(prediction=["epsilon", "v_prediction"], sigma_data=[0.5, 1.0], churn=[0.0, 3.0], sigma_schedule=["karras"]))
def test_edm(options: dict[str, Any]) -> None:
    prediction, data, churn, spacing = options.values()
    reference = diffusers.EDMEulerScheduler(prediction_type=prediction, sigma_data=data, sigma_schedule=spacing)
    reference.set_timesteps(STEPS)
    ours = "v_neg" if prediction == "epsilon" else "v"
    scheduler = EDM(prediction=ours, sigma_data=data, method="euler", churn=churn)
    times = scheduler.timesteps(STEPS)
    sigmas = ratios(scheduler, times) * data
    torch.testing.assert_close(reference.sigmas.double(), sigmas, rtol=1e-6, atol=0)
    torch.testing.assert_close(reference.timesteps.double(), times[:-1], rtol=1e-5, atol=1e-6)
    reference.sigmas, start = sigmas, draws(1)()
    sample, states, source = start * (sigmas[0] ** 2 + data**2).sqrt(), [], Generator().manual_seed(7)
    for index, time in enumerate(reference.timesteps):
        # they give the network the sample before churn and we the one behind it, so it must depend on neither
        predicted = torch.full(SHAPE, 0.1 * index, dtype=torch.float64)
        sample = reference.step(predicted, time, sample, s_churn=churn, generator=source).prev_sample
        states.append(sample / (sigmas[index + 1] ** 2 + data**2).sqrt())
    counter = itertools.count()
    found = scheduler.walk(lambda x, time: torch.full(SHAPE, 0.1 * next(counter)).double(), start, times, draws())
    check(list(found), states)


@pytest.mark.parametrize("quantile", [0.0, 0.6])
def test_thresholding(quantile: float) -> None:
    # a quantile of 0 stands for fixed bounds: theirs is dynamic with bounds of 1 and 1
    config = {"thresholding": True, "dynamic_thresholding_ratio": quantile or 0.5}
    config |= {"sample_max_value": 1e6 if quantile else 1.0}
    reference = theirs("DPMSolverMultistepScheduler", "v", timestep_spacing="trailing", **config)
    scheduler = SCHEDULERS.build("dpm_solver", chain("v"), clip_x0=1.0, clip_quantile=quantile)
    check_multistep(scheduler, reference)
    unbounded = SCHEDULERS.build("dpm_solver", chain("v"))
    times, start = scheduler.timesteps(STEPS), draws(1)()
    assert not torch.allclose(walk(scheduler, start, times)[-1], walk(unbounded, start, times)[-1], atol=1e-2)


@pytest.mark.parametrize("count", [2, 7, 30])
def test_the_linear_quadratic_grid_is_mochis(count: int) -> None:
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    times = RectifiedFlow(curve="linear_quadratic").timesteps(count)
    wanted = torch.tensor([*linear_quadratic_schedule(count, 0.025), 0.0], dtype=torch.float64)
    torch.testing.assert_close(times, wanted, rtol=1e-9, atol=1e-9)


def test_the_shift_by_tokens_is_that_of_ltx_video() -> None:
    # 1536 tokens of one latent each, between 1024 and 4096
    knobs = {"shift_by": "tokens", "token_range": (1024, 4096), "shift_range": (0.95, 2.05), "latents_per_token": 1}
    scheduler = RectifiedFlow(shift_terminal=0.1, **knobs)
    reference = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)
    mu = 0.95 + (2.05 - 0.95) * (1536 - 1024) / (4096 - 1024)
    reference.set_timesteps(sigmas=torch.linspace(1, 0, STEPS + 1)[:-1].numpy(), mu=mu)
    found = scheduler.timesteps(STEPS, (6, 16, 16))
    torch.testing.assert_close(found, reference.sigmas.double(), rtol=1e-5, atol=1e-6)

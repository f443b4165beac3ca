"""What no published config says and diffusers' pipelines call their schedulers with: churn, and grids of their own."""

from __future__ import annotations

import itertools

import diffusers
import pytest
import torch
from float64_diffusers import float64
from published_walks import SHAPE, noises, ours, worst
from torch import Tensor

from videogen.schedulers import SCHEDULERS
from videogen.schedulers.edm import EDM
from videogen.schedulers.rectified_flow import RectifiedFlow

STEPS = 10
CLOSE = 1e-6


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("data", [0.5, 1.0])
@pytest.mark.parametrize("churn", [0.0, 3.0])
def test_edm_with_churn(prediction: str, data: float, churn: float) -> None:
    start, *fresh = noises(STEPS + 1)
    constant = lambda index: torch.full(SHAPE, 0.1 * index, dtype=torch.float64)  # noqa: E731
    # they give the network the sample before churn and we the one behind it, so it must depend on neither
    states: list[Tensor] = []
    with float64(diffusers.EDMEulerScheduler, lambda: fresh[len(states)]):
        reference = diffusers.EDMEulerScheduler(prediction_type=prediction, sigma_data=data)
        reference.set_timesteps(STEPS)
        sigmas = reference.sigmas
        sample = start * (sigmas[0] ** 2 + data**2).sqrt()
        for index, time in enumerate(reference.timesteps):
            reference.scale_model_input(sample, time)
            sample = reference.step(constant(index), time, sample, s_churn=churn).prev_sample
            states.append(sample / (sigmas[index + 1] ** 2 + data**2).sqrt())
    scheduler = EDM(
        prediction="v_neg" if prediction == "epsilon" else "v", sigma_data=data, method="euler", churn=churn
    )
    times, drawn, count = scheduler.timesteps(STEPS), iter(fresh), itertools.count()
    torch.testing.assert_close(times[:-1], reference.timesteps, rtol=1e-9, atol=1e-9)
    found = list(scheduler.walk(lambda x, time: constant(next(count)), start, times, lambda: next(drawn)))
    assert worst(found, states) <= CLOSE


@pytest.mark.parametrize("steps", [2, 7, 30])
def test_the_linear_quadratic_grid_is_mochis(steps: int) -> None:
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    times = RectifiedFlow(curve="linear_quadratic").timesteps(steps)
    wanted = torch.tensor([*linear_quadratic_schedule(steps, 0.025), 0.0], dtype=torch.float64)
    torch.testing.assert_close(times, wanted, rtol=1e-9, atol=1e-9)


def test_the_shift_by_tokens_is_that_of_ltx_video() -> None:
    # 1536 tokens of one latent each, between 1024 and 4096
    knobs = {"shift_by": "tokens", "token_range": (1024, 4096), "shift_range": (0.95, 2.05), "latents_per_token": 1}
    scheduler = RectifiedFlow(shift_terminal=0.1, **knobs)
    kind = diffusers.FlowMatchEulerDiscreteScheduler
    with float64(kind, lambda: pytest.fail("it drew")):
        reference = kind(use_dynamic_shifting=True, shift_terminal=0.1)
        mu = 0.95 + (2.05 - 0.95) * (1536 - 1024) / (4096 - 1024)
        reference.set_timesteps(sigmas=torch.linspace(1, 0, STEPS + 1)[:-1].numpy(), mu=mu)
    torch.testing.assert_close(scheduler.timesteps(STEPS, (6, 16, 16)), reference.sigmas, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["euler", "ddim", "euler_ancestral"])
def test_without_noise_all_first_order_methods_are_one(name: str) -> None:
    noise = SCHEDULERS.build("ddpm", prediction="v")
    one = SCHEDULERS.build("dpm_solver", noise, order=1)
    wiring, knobs = ([], {"prediction": "v"}) if name == "ddim" else ([noise], {})
    other = SCHEDULERS.build(name, *wiring, **knobs, **({"eta": 0.0} if name == "euler_ancestral" else {}))
    assert worst(ours(one, STEPS), ours(other, STEPS)) <= 1e-12


@pytest.mark.parametrize("knobs", [{"clip_x0": 0.7}, {"clip_x0": 0.7, "clip_quantile": 0.8, "clip_widest": 1.1}])
def test_ddim_bounds_x0_as_solvers_do(knobs: dict[str, float]) -> None:
    """The noise is what a bounded x0 leaves of the sample; diffusers' DDIM keeps the predicted one beside it."""
    noise = SCHEDULERS.build("ddpm", prediction="v")
    solver = SCHEDULERS.build("euler", noise, **knobs)
    ddim = SCHEDULERS.build("ddim", prediction="v", **knobs)
    kept = SCHEDULERS.build("ddim", prediction="v", clip_noise=False, **knobs)
    unbounded = SCHEDULERS.build("ddim", prediction="v")
    assert worst(ours(ddim, STEPS), ours(solver, STEPS)) <= 1e-12
    assert worst(ours(kept, STEPS), ours(solver, STEPS)) > 1e-2
    assert worst(ours(unbounded, STEPS), ours(solver, STEPS)) > 1e-2

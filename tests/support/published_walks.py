"""The walk of a published scheduler in float64, told in the scale and the steps of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from float64_diffusers import float64
from torch import Generator, Tensor

from videogen.schedulers import Scheduler

SHAPE = (2, 3, 2, 3, 4)
#: those whose x is that of alpha = 1, told to the network divided by sqrt(sigma^2 + sigma_data^2)
SCALED = ("EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "EDMEuler", "EDMDPMSolverMultistep")
#: those that know a table of alphas_cumprod and no sigmas of their walk
TABLED = ("DDIM", "DDPM", "PNDM", "LCM", "CogVideoXDDIM", "CogVideoXDPM")
FLOWS = ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM")


def model(sample: Tensor, ratio: Tensor) -> Tensor:
    """Some smooth network: what it predicts doesn't matter, that it depends on all it is given does."""
    return 0.3 * sample + 0.2 * torch.sin(3 * torch.atan(ratio)) + 0.5 * torch.tanh(sample.flip(-1))


def noises(count: int, seed: int = 7) -> list[Tensor]:
    source = Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=source, dtype=torch.float64) for _ in range(count)]


def write_config(folder: Path, name: str, config: dict[str, Any]) -> Path:
    """The scheduler_config.json that diffusers itself writes."""
    kind = getattr(diffusers, f"{name}Scheduler")
    with float64(kind, lambda: torch.zeros(())):
        kind(**config).save_pretrained(folder)
    return folder


def ours(scheduler: Scheduler, steps: int, size: tuple[int, int, int] | None = None) -> list[Tensor]:
    """All states of our walk."""
    start, *fresh = noises(3 * steps + 1)
    drawn = iter(fresh)

    def network(x: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = scheduler.noise.alpha_sigma(time)
        return model(x, sigma / alpha)

    return list(scheduler.walk(network, start, scheduler.timesteps(steps, size), lambda: next(drawn)))


def theirs(
    name: str, config: dict[str, Any], steps: int, call: dict[str, Any], mu: float | None = None
) -> list[Tensor]:
    """All states of theirs that are ends of our steps."""
    kind = getattr(diffusers, f"{name}Scheduler")
    start, *fresh = noises(3 * steps + 1)
    index = 0
    with float64(kind, lambda: fresh[index]):
        reference = kind(**config)
        reference.set_timesteps(steps, **({} if mu is None else {"mu": mu}))
        levels = _levels(reference, name)
        scale = _scale(reference, name)
        step = _stepper(reference, name, call)
        sample, states, marks = start / scale(0), [], _marks(reference, name)
        for number, time in enumerate(reference.timesteps):
            index = len(states)
            prediction = model(sample * scale(number), levels(number, time))
            if name in SCALED:
                reference.scale_model_input(sample, time)
            sample = step(prediction, time, sample)
            if number in marks:
                states.append(sample * scale(number + 1))
    assert {state.dtype for state in states} == {torch.float64}
    return states


def worst(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest relative error over a walk."""
    assert len(found) == len(wanted)
    assert all(torch.isfinite(x).all() and torch.isfinite(y).all() for x, y in zip(found, wanted, strict=True))
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(found, wanted, strict=True))


def _levels(reference: Any, name: str) -> Callable[[int, Tensor], Tensor]:
    """(call, their time) -> sigma / alpha there, of data of unit variance."""
    if name in TABLED:
        bars = reference.alphas_cumprod
        return lambda number, time: ((1 - bars[time.long()]) / bars[time.long()]).sqrt()
    if name in FLOWS or reference.config.get("use_flow_sigmas", False):
        times = 1 - reference.sigmas if reference.config.get("invert_sigmas", False) else reference.sigmas
        return lambda number, time: times[number] / (1 - times[number])
    data = reference.config.get("sigma_data", 1.0)
    return lambda number, time: reference.sigmas[number] / data


def _scale(reference: Any, name: str) -> Callable[[int], Tensor]:
    """call -> what their x before it is times in ours."""
    if name not in SCALED:
        return lambda number: torch.ones(())
    data = reference.config.get("sigma_data", 1.0)
    return lambda number: (reference.sigmas[number] ** 2 + data**2).rsqrt()


def _stepper(reference: Any, name: str, call: dict[str, Any]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if name != "CogVideoXDPM":
        return lambda prediction, time, sample: reference.step(prediction, time, sample, **call).prev_sample
    before: dict[str, Any] = {"x0": None, "time": None}

    def step(prediction: Tensor, time: Tensor, sample: Tensor) -> Tensor:
        sample, before["x0"] = reference.step(prediction, before["x0"], time, before["time"], sample)
        before["time"] = time
        return sample

    return step


def _marks(reference: Any, name: str) -> set[int]:
    """The calls after which x is at the end of one of our steps."""
    count = len(reference.timesteps)
    if "Heun" in name:
        return {*range(1, count, 2), count - 1}
    if name == "PNDM":
        # the very first step is made twice, or each of the first three takes four calls
        return set(range(1, count)) if reference.config.skip_prk_steps else {3, 7, *range(11, count)}
    return set(range(count))

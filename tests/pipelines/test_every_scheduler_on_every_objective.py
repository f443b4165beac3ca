"""Every scheduler walks for a network of every objective, from pure noise to data whose law is known exactly."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from exact_network import MEAN, SPREAD, exact_network
from torch import Generator

from videogen.pipelines.bridge import Bridge
from videogen.schedulers import SCHEDULERS, Prediction

COUNT = 1024
#: what an objective is trained on; an epsilon tells nothing where no signal is left
OBJECTIVES: dict[str, tuple[str, dict[str, Any]]] = {
    f"{name} of {prediction}{', zero terminal SNR' if zero else ''}": (
        name,
        {"prediction": prediction, **({"zero_terminal_snr": True} if zero else {})},
    )
    for name, zero in (("ddpm", False), ("ddpm", True), ("rectified_flow", False), ("edm", False))
    for prediction in get_args(Prediction)
    if prediction != "epsilon" or not (zero or name == "rectified_flow")
}


def pairs() -> list[Any]:
    """All of both; a fourth of them, of each scheduler and of each objective, are quick tests."""
    names = SCHEDULERS.names()
    return [
        pytest.param(name, objective, marks=[] if (row + column) % 4 == 0 else [pytest.mark.slow])
        for row, name in enumerate(names)
        for column, objective in enumerate(OBJECTIVES)
    ]


@pytest.mark.parametrize(("name", "objective"), pairs())
def test_it_ends_on_the_data(name: str, objective: str) -> None:
    part, knobs = OBJECTIVES[objective]
    trained = SCHEDULERS.build(part, **knobs)
    wiring = [trained] if SCHEDULERS.describe(name).wiring else []
    scheduler = SCHEDULERS.build(name, *wiring)
    bridge, network = Bridge(trained, scheduler.noise), exact_network(trained)
    # random steps of first order leave twice as much
    times = scheduler.timesteps(4 if name == "lcm" else 60 if scheduler.stochastic else 30)
    # evenly spread quantiles have the mean and the spread of normal values
    start = torch.special.ndtri((torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT)[:, None]
    _, sigma = scheduler.noise.alpha_sigma(times[0])
    source = Generator().manual_seed(0)
    *_, end = scheduler.walk(
        lambda x, time: bridge.predict(network, x, time),
        sigma * start,
        times,
        lambda: torch.randn(start.shape, generator=source, dtype=torch.float64),
    )
    # a chain that doesn't end in pure noise begins with a little of a signal of 0: 0.6 % of the mean
    assert float(end.mean()) == pytest.approx(MEAN, abs=4 * SPREAD / COUNT**0.5 + 0.01)
    if name == "lcm":
        # a network that was never distilled gives means: each step shrinks the spread
        assert 0 < float(end.std()) < SPREAD
    else:
        # 4 standard errors of what is drawn, and what so many steps leave
        assert float(end.std()) == pytest.approx(SPREAD, rel=4 / (2 * COUNT) ** 0.5 + 0.06)

"""The times that solvers visit: every spacing on every noise schedule, and what each knob of them means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from videogen.schedulers import NoiseSchedule
from videogen.schedulers._walk_grid import Spacing
from videogen.schedulers.ddpm import DDPM
from videogen.schedulers.edm import EDM
from videogen.schedulers.euler import Euler
from videogen.schedulers.rectified_flow import RectifiedFlow

NOISES: dict[str, Callable[[], NoiseSchedule]] = {
    "flow": RectifiedFlow,
    "chain": DDPM,
    "chain to pure noise": lambda: DDPM(prediction="v", zero_terminal_snr=True),
    "edm": EDM,
}
#: those of whole training steps
DISCRETE = ("linspace", "leading", "fractional")
each_noise = pytest.mark.parametrize("noise", NOISES)


def ratios(noise: NoiseSchedule, times: Tensor) -> Tensor:
    alpha, sigma = noise.alpha_sigma(times)
    return sigma / alpha


@each_noise
@pytest.mark.parametrize("spacing", get_args(Spacing))
@pytest.mark.parametrize("to_data", [True, False])
def test_every_spacing_descends_on_every_schedule_that_has_it(noise: str, spacing: Any, to_data: bool) -> None:
    schedule = NOISES[noise]()
    solver = Euler(schedule, spacing=spacing, to_data=to_data)
    if spacing in DISCRETE and "chain" not in noise:
        with pytest.raises(ValueError, match="belongs to schedules of discrete steps"):
            solver.timesteps(7)
        return
    for steps in (1, 2, 7, 40):
        times = solver.timesteps(steps)
        assert (times.shape, times.dtype) == ((steps + 1,), torch.float64)
        # what ends at the lowest level may have come there before
        assert (times.diff() < (0 if to_data else 1e-12)).all()
        assert times[0] > times[-1] or (steps, spacing) == (1, "leading")
        end = float(ratios(schedule, times[-1:]))
        assert end == pytest.approx(0 if to_data else schedule.limits[0], abs=1e-9)


@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta"])
@pytest.mark.parametrize("between", ["limits", "trailing", "leading"])
def test_noise_levels_are_spaced_between_their_ends(spacing: Any, between: Any) -> None:
    noise = DDPM()
    found = ratios(noise, Euler(noise, spacing=spacing, between=between, sigma_max=1e6).timesteps(9))[:-1]
    ends = ratios(noise, noise.grid(9, between)[[0, -2]]) if between != "limits" else torch.tensor(noise.limits).flip(0)
    torch.testing.assert_close(found[[0, -1]], ends.double(), rtol=1e-6, atol=0)
    even = {"karras": found ** (1 / 7), "exponential": found.log()}
    if spacing in even:
        steps = even[spacing].diff()
        torch.testing.assert_close(steps, steps[:1].expand(8), rtol=1e-6, atol=1e-9)
    else:
        # the beta law is dense at both ends, and symmetric
        middle = (found[0] + found[-1]) / 2
        torch.testing.assert_close(found - middle, (middle - found).flip(0), rtol=1e-6, atol=1e-9)
        assert found[0] - found[1] < found[3] - found[4]


def test_one_more_step_is_left_out() -> None:
    noise = DDPM()
    for spacing, offset in (("linspace", 0), ("leading", 1)):
        wanted = noise.grid(10, spacing, offset)
        times = Euler(noise, spacing=spacing, steps_offset=offset, one_more=True).timesteps(9)
        assert times.tolist() == [*wanted[:-2].tolist(), -1]


def test_fractional_times_are_linspace_without_rounding() -> None:
    noise = DDPM()
    times = Euler(noise, spacing="fractional").timesteps(8)
    rounded = noise.grid(8, "linspace")
    assert (times - rounded).abs().max() < 0.6
    assert bool((times[1:-2] != rounded[1:-2]).any())
    # between two training steps sigma / alpha is linear
    at, low, high = 999 - 999 / 7, 856.0, 857.0
    ends = ratios(noise, torch.tensor([low, high]))
    torch.testing.assert_close(ratios(noise, times[1:2])[0], torch.lerp(ends[0], ends[1], at - low))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"spacing": "karas"}, "did you mean 'karras'"),
        ({"steps_offset": 1}, "steps_offset=1 with spacing='trailing'.*set it to 0"),
        ({"one_more": True}, "one_more with spacing='trailing' belongs to linspace and leading"),
        ({"between": "leading"}, "between='leading' with spacing='trailing' belongs to karras"),
        ({"sigma_min": 90.0}, "they must ascend from above 0"),
        ({"rho": 0.0}, "rho=0.0 must be positive"),
        ({"clip_widest": 2.0}, "clip_widest=2.0 ends what clip_quantile=0.0 widens"),
    ],
)
def test_knobs_out_of_range_or_without_effect_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Euler(DDPM(), **knobs)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"overlong": True}, "overlong with timestep_spacing='trailing': it belongs to leading alone"),
        ({"terminal_signal": 1e-7}, "terminal_signal=1e-07: from 0 to 0.001, and 0 without zero_terminal_snr"),
        ({"terminal_signal": 0.1, "zero_terminal_snr": True}, "from 0 to 0.001"),
    ],
)
def test_knobs_of_a_chain_without_effect_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDPM(**knobs)

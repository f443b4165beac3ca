"""Schedulers as published folders set them walk as diffusers' own do, in float64, over a generated table of settings.

Each row of the table is written as a scheduler_config.json by diffusers, read by us, and walked by both from the same
noise with the same draws. All of diffusers' code runs in float64 here: nothing of it had to be left in float32.
Settings where the published code has no numbers, or walks otherwise than it says, are left out of the table; each is
told beside it, and what the loader remarks on those that it takes is tested here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from published_rows import ROWS, Row
from published_walks import ours, theirs, worst, write_config

import videogen
from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.schedulers import CLASSES, PublishedScheduler, read_scheduler
from videogen.config import compose
from videogen.config.building import build_schedulers
from videogen.schedulers._levels import beta_quantile

# theirs hands tensors to numpy in a way that numpy will refuse one day
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLOSE = 1e-6
#: each so many-th row is a quick test
QUICK = 8


def cases() -> list[Any]:
    marks = [[] if index % QUICK == 0 else [pytest.mark.slow] for index in range(len(ROWS))]
    return [pytest.param(row, id=str(row), marks=mark) for row, mark in zip(ROWS, marks, strict=True)]


def read(folder: Path) -> PublishedScheduler:
    """Without the remarks on cases that no row is one of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return read_scheduler(folder)


def mu(row: Row) -> float | None:
    """What a published pipeline makes of the number of tokens, of 2x2 latents each."""
    if row.size is None:
        return None
    first, last = (row.config.get(f"{end}_image_seq_len", value) for end, value in (("base", 256), ("max", 4096)))
    low, high = (row.config.get(f"{end}_shift", value) for end, value in (("base", 0.5), ("max", 1.15)))
    return float(low + (high - low) * (math.prod(row.size) / 4 - first) / (last - first))


@pytest.mark.parametrize("row", cases())
def test_the_walk_is_the_published_one(row: Row, tmp_path: Path) -> None:
    found = read(write_config(tmp_path, row.name, row.config))
    # eta is what a pipeline is called with, and a knob of ours
    eta = {key: value for key, value in row.call.items() if key == "eta"}
    scheduler = dataclasses.replace(found, knobs={**found.knobs, **eta}).build()
    expected = theirs(row.name, row.config, row.steps, row.call, mu(row))
    assert worst(ours(scheduler, row.steps, row.size), expected) <= CLOSE


def test_the_table_has_hundreds_of_rows_of_every_class() -> None:
    names = [row.name for row in ROWS]
    assert {f"{name}Scheduler" for name in names} == set(CLASSES)
    # those with one setting have the fewest
    assert min(map(names.count, set(names))) >= 6
    assert len({str(row) for row in ROWS}) == len(ROWS) > 1000


# the table's gaps: settings that are taken, and where the published code does otherwise -----------------------------


@pytest.mark.parametrize(
    ("name", "config", "remark"),
    [
        ("DDIM", {"timestep_spacing": "linspace"}, "goes down by training steps // steps"),
        ("CogVideoXDPM", {"timestep_spacing": "trailing"}, "goes down by training steps // steps"),
        ("PNDM", {"prediction_type": "v_prediction", "skip_prk_steps": True}, "of v the published code combines"),
        ("PNDM", {}, "Runge-Kutta steps is half a training step off"),
        ("DPMSolverMultistep", {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"}, "with a wrong sign"),
        ("FlowMatchEulerDiscrete", {"invert_sigmas": True}, "told how much data there is"),
    ],
)
def test_where_the_published_code_does_otherwise_is_said(
    name: str, config: dict[str, Any], remark: str, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=remark):
        read_scheduler(write_config(tmp_path, name, config))


@pytest.mark.parametrize(
    ("name", "config", "steps"),
    [
        ("DDIM", {"clip_sample": False, "timestep_spacing": "linspace"}, 8),
        ("PNDM", {"prediction_type": "v_prediction", "skip_prk_steps": True}, 8),
        ("PNDM", {}, 8),
        ("DPMSolverMultistep", {"solver_order": 3, "algorithm_type": "sde-dpmsolver++"}, 8),
    ],
)
def test_a_remark_is_on_a_walk_that_differs(name: str, config: dict[str, Any], steps: int, tmp_path: Path) -> None:
    found = read(write_config(tmp_path, name, config))
    assert worst(ours(found.build(), steps), theirs(name, config, steps, {})) > CLOSE


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("DDPM", {"variance_type": "learned"}, "variance_type='learned' of DDPMScheduler has no counterpart"),
        ("DDIM", {"trained_betas": [0.1, 0.2]}, "betas come from beta_schedule"),
        ("EulerDiscrete", {"interpolation_type": "log_linear"}, "other times than those of its noise"),
        ("EulerDiscrete", {"use_karras_sigmas": True, "sigma_max": 700.0}, "within the chain's own"),
        ("HeunDiscrete", {"beta_schedule": "exp"}, "there is 'linear', 'scaled_linear', 'squaredcos_cap_v2'"),
        ("DPMSolverMultistep", {"lambda_min_clipped": -5.1}, "there is -inf alone"),
        ("DPMSolverMultistep", {"use_flow_sigmas": True, "prediction_type": "v_prediction"}, "prediction_type"),
        ("UniPCMultistep", {"predict_x0": False}, "the method on x0 alone"),
        ("UniPCMultistep", {"disable_corrector": [0]}, "scheduler.corrector=false"),
        ("LCM", {"original_inference_steps": 30}, "a number that divides 1000"),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "time_shift_type": "linear"}, "'exponential' alone"),
        ("FlowMatchLCM", {"scale_factors": [0.5]}, "all steps are of one size"),
    ],
)
def test_settings_without_a_counterpart_are_refused(
    name: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(LayoutError, match=message):
        read(write_config(tmp_path, name, config))


def write(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "scheduler_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_a_config_that_says_nothing_has_the_published_defaults(name: str, tmp_path: Path) -> None:
    said = read(write_config(tmp_path / "whole", name.removesuffix("Scheduler"), {}))
    assert read(write(tmp_path / "bare", _class_name=name)) == said


def test_classes_and_settings_that_nobody_knows_are_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="'DDIMSchedule' has no counterpart here: did you mean 'DDIMScheduler'"):
        read_scheduler(write(tmp_path, _class_name="DDIMSchedule"))
    with pytest.raises(LayoutError, match="dimming: no settings of DDIMScheduler"):
        read_scheduler(write(tmp_path, _class_name="DDIMScheduler", dimming=2))
    with pytest.raises(LayoutError, match=r"neither scheduler_config\.json nor scheduler/scheduler_config\.json"):
        read_scheduler(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="skip_prk_steps belong to other schedulers, and DDIMScheduler ignores"):
        read_scheduler(write(tmp_path, _class_name="DDIMScheduler", skip_prk_steps=True))


def test_a_folder_loads_as_a_scheduler_from_itself_and_from_a_whole_model(tmp_path: Path) -> None:
    write(tmp_path / "scheduler", _class_name="UniPCMultistepScheduler", use_flow_sigmas=True, flow_shift=5.0)
    alone, whole = videogen.load(tmp_path / "scheduler"), videogen.load(tmp_path, "scheduler")
    assert [type(each).__name__ for each in (alone, whole)] == ["UniPC", "UniPC"]
    assert (alone.shift, alone.spacing, type(alone.noise).__name__) == (5.0, "flow_unipc", "RectifiedFlow")


def test_weights_of_a_published_folder_bring_their_scheduler(tmp_path: Path) -> None:
    """Over the preset, whose other knobs of it go, and under what is asked for."""
    told = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction", "solver_order": 3}
    write(tmp_path / "scheduler", _class_name="UniPCMultistepScheduler", **told)
    asked = ["model=wan2_2_ti2v_5b", f"weights={tmp_path}"]
    config = compose("generate", asked)
    assert (config["scheduler"]["name"], config["objective"]["name"]) == ("unipc", "rectified_flow")
    found = {key: config["scheduler"][key] for key in ("order", "shift", "spacing", "variant")}
    assert found == {"order": 3, "shift": 3.0, "spacing": "flow_unipc", "variant": "bh2"}
    assert compose("generate", [*asked, "scheduler.shift=7"])["scheduler"]["shift"] == 7.0
    assert compose("generate", [*asked, "scheduler=euler"])["scheduler"]["spacing"] == "trailing"
    without = compose("generate", ["model=wan2_2_ti2v_5b"])["scheduler"]
    assert (without["shift"], without["spacing"]) == (5.0, "trailing")


@pytest.mark.parametrize("name", CLASSES)
def test_every_published_scheduler_is_a_config(name: str, tmp_path: Path) -> None:
    write(tmp_path / "scheduler", _class_name=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        composed = compose("generate", ["model=shapes", f"weights={tmp_path}"])
        objective, scheduler = build_schedulers(composed)
        alone = read_scheduler(tmp_path).build()
    assert (type(scheduler), type(scheduler.noise)) == (type(alone), type(alone.noise))
    # a scheduler that brings its noise has it among its knobs; of an objective the training is the preset's
    knobs = [field.name for field in dataclasses.fields(alone) if field.name not in ("eta", "noise")]
    assert {knob: getattr(scheduler, knob) for knob in knobs} == {knob: getattr(alone, knob) for knob in knobs}
    times = alone.timesteps(4, (1, 8, 8))
    found, wanted = (torch.stack(each.noise.alpha_sigma(times)) for each in (scheduler, alone))
    assert torch.equal(found, wanted)
    assert objective.prediction == alone.noise.prediction


def test_flow_shift_3_is_three_grids_and_ours_is_plain(tmp_path: Path) -> None:
    """The last times above data, of 8 steps, as they were printed by diffusers."""
    flow = {"use_flow_sigmas": True, "flow_shift": 3.0, "prediction_type": "flow_prediction"}
    published = {
        "FlowMatchEulerDiscrete": ({"shift": 3.0}, 0.0089),
        "UniPCMultistep": (flow, 0.3017),
        "DPMSolverMultistep": (flow, 0.2998),
    }
    for name, (config, last) in published.items():
        scheduler = read(write_config(tmp_path / name, name, config)).build()
        assert float(scheduler.timesteps(8)[-2]) == pytest.approx(last, abs=5e-5)
    for name in ("unipc", "dpm_solver", "euler"):
        scheduler = videogen.build("scheduler", name, videogen.build("scheduler", "rectified_flow"), shift=3.0)
        times = scheduler.timesteps(8)
        torch.testing.assert_close(times, videogen.build("scheduler", "rectified_flow", shift=3.0).timesteps(8))
        assert float(times[-2]) == pytest.approx(3 / 8 / (1 + 2 / 8))


def test_the_beta_law_s_quantiles_hold_their_share() -> None:
    """With shapes of 1/2 its share is an arc sine; the shares of 0.6 are held against an integral."""
    share = torch.linspace(0, 1, 21, dtype=torch.float64)
    torch.testing.assert_close(beta_quantile(share, 0.5), (share * math.pi / 2).sin().square(), rtol=1e-9, atol=1e-15)
    found = beta_quantile(share)
    # t = sin^2 takes the ends' poles out of the density
    angle = torch.linspace(0, 1, 200_001, dtype=torch.float64) * found[7].sqrt().asin()
    density = 2 * (angle.sin() * angle.cos()) ** 0.2 * math.gamma(1.2) / math.gamma(0.6) ** 2
    assert float(torch.trapezoid(density, angle)) == pytest.approx(float(share[7]), abs=1e-6)
    torch.testing.assert_close(found + found.flip(0), torch.ones_like(found))

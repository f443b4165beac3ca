"""The samplers of ModelScope, VideoCrafter without a scaled signal, and Open-Sora 1.2, as their own code ran.

The fixtures hold what the originals gave for made-up networks, in float32; their `config.json` says of which revision,
and what the network was. VideoCrafter with a scaled signal is in `test_signal_scale`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from videogen.config import build_part, compose
from videogen.schedulers import Scheduler
from videogen.schedulers.ddim import DDIM

FIXTURES = Path(__file__).parent / "fixtures"
Distance = Callable[[Tensor, Tensor], float]
# float32 there, in which guidance of 7 to 9 over up to 50 steps loses two digits
CLOSE = 1e-5
# what the originals' own numbers of steps are
CHAINS = {"modelscope": ("modelscope", 50, 9.0), "videocrafter_unscaled": ("videocrafter1_t2v_512", 25, 7.5)}


def golden(name: str) -> dict[str, Tensor]:
    tensors = load_file(FIXTURES / name / "io.safetensors")
    return {key: value.double() if value.is_floating_point() else value for key, value in tensors.items()}


def sampler(preset: str, *overrides: str) -> Scheduler:
    scheduler: Scheduler = build_part("scheduler", compose("generate", [f"model={preset}", *overrides])["scheduler"])
    return scheduler


def guided(sample: Tensor, time: Tensor, given: Tensor, without: Tensor, scale: float) -> Tensor:
    """The made-up network of all three, with classifier-free guidance."""
    with_text, alone = (0.3 * sample + 0.2 * (time / 100).sin() + 0.5 * told.mean().tanh() for told in (given, without))
    return alone + scale * (with_text - alone)


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_walks_as_the_original_did(name: str, distance: Distance) -> None:
    preset, steps, scale = CHAINS[name]
    tensors, scheduler = golden(name), sampler(preset, "scheduler.eta=0", "scheduler.signal_scale=1")
    assert isinstance(scheduler, DDIM)
    times = scheduler.timesteps(steps)
    descending = tensors["steps"] if "steps" in tensors else tensors["ddim_timesteps"].flip(0)
    assert times[:-1].tolist() == descending.tolist()
    alpha, _ = scheduler.alpha_sigma(torch.arange(1000))
    # one table is a running product in float32
    assert distance(alpha.square(), tensors["alphas_cumprod"]) < 1e-6
    latents = tensors["x_T"]
    for index, (time, after) in enumerate(pairwise(times)):
        prediction = guided(latents, time, tensors["cond"], tensors["uncond"], scale)
        x0, _ = scheduler.split(prediction, latents, time)
        latents = scheduler.step(prediction, time, after, latents)
        assert distance(x0, tensors["x0" if "x0" in tensors else "pred_x0"][index]) < CLOSE
        assert distance(latents, tensors["x"][index]) < CLOSE


def test_videocrafter_noises_as_the_original_did(distance: Distance) -> None:
    tensors = golden("videocrafter_unscaled")
    noisy = sampler("videocrafter1_t2v_512", "scheduler.signal_scale=1").noise.add_noise(
        tensors["q_x0"], tensors["q_noise"], tensors["q_t"]
    )
    assert distance(noisy, tensors["q_out"]) < 1e-6


@pytest.mark.parametrize(("preset", "steps", "more"), [("modelscope", 30, 31), ("videocrafter2", 30, 31)])
def test_the_originals_take_31_steps_for_30(preset: str, steps: int, more: int) -> None:
    """Times every 1000 // 30 = 33, from 1 on: one more than asked for; none where the steps divide 1000."""
    scheduler = sampler(preset)
    assert scheduler.timesteps(steps).tolist() == [*range(1 + 33 * (more - 1), 0, -33), 0]
    assert len(sampler(preset, "scheduler.overlong=false").timesteps(steps)) == steps + 1
    assert len(scheduler.timesteps(50)) == 51


def test_open_sora_walks_as_the_original_did(distance: Distance) -> None:
    tensors, scheduler = golden("open_sora_1_2"), sampler("opensora_1_2")
    # 17 frames are 5 latents there, and pixels 8 to a latent
    size = (
        int(tensors["num_frames"]) // 17 * 5,
        *(int(tensors[side]) // 8 for side in ("height", "width")),
    )
    times = scheduler.timesteps(30, size)
    assert distance(times[:-1] * 1000, tensors["timesteps"].flatten()) < 1e-6
    latents = tensors["z"]
    for index, (time, after) in enumerate(pairwise(times)):
        assert distance(latents, tensors["model_in"][index]) < CLOSE
        prediction = guided(latents, 1000 * time, tensors["y"], tensors["y_null"], 7.0)
        latents = scheduler.step(prediction, time, after, latents)
    assert distance(latents, tensors["out"]) < CLOSE


def test_open_sora_noises_and_shifts_as_the_original_did(distance: Distance) -> None:
    tensors, scheduler = golden("open_sora_1_2"), sampler("opensora_1_2")
    noisy = scheduler.noise.add_noise(tensors["add_noise_x0"], tensors["add_noise_eps"], tensors["add_noise_t"] / 1000)
    assert distance(noisy, tensors["add_noise_out"]) < 1e-6
    tables = [key for key in tensors if key.startswith("transform_") and key != "transform_t"]
    assert len(tables) == 4
    for key in tables:
        height, width, frames = map(int, key.removeprefix("transform_").split("x"))
        latents = frames // 17 * 5 if frames > 1 else 1
        times = scheduler.timesteps(20, (latents, height // 8, width // 8)).flip(0)
        assert distance(times * 1000, tensors[key]) < 1e-6

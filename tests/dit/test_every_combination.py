"""Every registered block with every position and modulation, on drawn kernels, norms, MLPs, texts and schedulers.

Each is built, runs forward and backward and samples two steps; what doesn't go together is refused, with a reason,
before anything is allocated. The product of block, position and modulation is whole; the other kinds are drawn
so that every pair of any two values of all kinds is among the combinations. A part that registers itself is in here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from allocations import Allocations
from covering import Combination, covering, pairs
from torch import Tensor, nn

from videogen.denoiser import text_condition
from videogen.dit.model import DiT
from videogen.dit.parts import DEFAULTS, REGISTRIES, choose
from videogen.kernels import ATTENTION
from videogen.pipelines.text_to_video import Sampling, TextToVideo
from videogen.registry import RegistryError
from videogen.schedulers import SCHEDULERS
from videogen.text import TEXT_ENCODERS
from videogen.vae import VAES

DIM, HEADS, CHANNELS = 48, 2, 4
#: of a clip, of which (2, 4, 4) latents and (2, 2, 2) tokens come
SIZE = {"num_frames": 2, "height": 8, "width": 8}
#: what the pipeline doesn't give is a knob where a part needs it
KNOBS: dict[str, dict[str, Any]] = {"fractional": {"default_fps": 8.0}}
WHOLE = ("block", "position", "modulation")
#: combinations that take no more than a few minutes of two cores
MOST = 400


def on_cpu(name: str) -> bool:
    """Whether a kernel declares that it computes gradients here."""
    try:
        support = ATTENTION.get(name).support  # type: ignore[attr-defined]
    except RegistryError:
        return False
    return "cpu" in support.devices and support.backward


def build(parts: Combination) -> DiT:
    kernel = ATTENTION.build(parts.get("attention", "sdpa"))
    chosen = {kind: {"name": name, **KNOBS.get(name, {})} for kind, name in parts.items() if kind in REGISTRIES}
    return DiT(CHANNELS, DIM, choose(kernel, **chosen), dim=DIM, depth=1, num_heads=HEADS)


@functools.cache
def refusal(**parts: str) -> str | None:
    """Why these parts can't be one model, as its construction says without allocating anything."""
    said = None
    with Allocations() as made, torch.device("meta"):
        try:
            build(parts)
        except ValueError as error:
            said = str(error)
    assert made.bytes == 0
    assert said is None or len(said) > 20, f"{said!r} is no reason"
    return said


FULL = {kind: REGISTRIES[kind].names() for kind in WHOLE}
#: what some other part has to be chosen for, as image tokens, goes with no combination of defaults; and known latents
#: aren't what a sentence gives
DRAWN = {
    kind: [name for name in REGISTRIES[kind].names() if refusal(**{kind: name}) is None]
    for kind in REGISTRIES
    if kind not in (*WHOLE, "known")
}
DRAWN["attention"] = [name for name in ATTENTION.names() if on_cpu(name)]
DRAWN["scheduler"] = SCHEDULERS.names()
MAINS = len(FULL["block"]) * len(FULL["position"]) * len(FULL["modulation"])
COMBINATIONS = covering(FULL, DRAWN, times=max(1, MOST // MAINS))


@pytest.fixture(scope="module")
def pipeline() -> Callable[[nn.Module, str], TextToVideo]:
    torch.manual_seed(0)
    knobs = {"base_channels": 8, "channel_multipliers": (1, 1), "num_res_blocks": 1, "norm_groups": 4}
    vae = VAES.build("framewise", latent_channels=CHANNELS, use_attention=False, **knobs).eval()
    text = TEXT_ENCODERS.build("words", vocabulary=("red", "circle"), dim=DIM, depth=1, num_heads=2).eval()

    def assemble(denoiser: Any, scheduler: str) -> TextToVideo:
        solver = bool(SCHEDULERS.describe(scheduler).wiring)
        # a solver walks on the noise of whatever was trained
        objective: Any = SCHEDULERS.build("rectified_flow" if solver else scheduler)
        walk = SCHEDULERS.build(scheduler, objective) if solver else objective
        sampling = Sampling(**SIZE, steps=2, guidance=2.0)
        return TextToVideo(
            vae=vae, denoiser=denoiser, text=text, objective=objective, scheduler=walk, sampling=sampling
        )

    return assemble


def fitting(combination: Combination) -> Combination | None:
    """The combination; where a drawn part doesn't go with the others, with the defaults instead; None without any."""
    parts = {kind: name for kind, name in combination.items() if kind != "scheduler"}
    if refusal(**parts) is None:
        return combination
    plain = {kind: name for kind, name in parts.items() if kind in FULL}
    return {**plain, "scheduler": combination["scheduler"]} if refusal(**plain) is None else None


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda combination: "-".join(combination.values()))
def test_it_learns_and_samples_or_is_refused(
    combination: Combination,
    pipeline: Callable[[nn.Module, str], TextToVideo],
    randomised: Callable[[nn.Module], nn.Module],
) -> None:
    chosen = fitting(combination)
    if chosen is None:
        return
    model = randomised(build(chosen))
    features = pipeline(model, chosen["scheduler"]).text.encode(["red circle", "red"])
    condition = text_condition(features, model.conditions, (32, 32))
    out: Tensor = model(torch.randn(2, CHANNELS, 2, 4, 4), torch.rand(2), condition)
    assert out.shape == (2, CHANNELS, 2, 4, 4)
    out.square().mean().backward()
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients)
    video = pipeline(model, chosen["scheduler"])("red circle")
    assert video.shape == (1, 3, *SIZE.values())
    assert bool(video.isfinite().all())


def test_every_pair_is_among_them() -> None:
    held = {
        pair for combination in COMBINATIONS for pair in pairs({kind: [name] for kind, name in combination.items()})
    }
    assert set(pairs({**FULL, **DRAWN})) <= held


def test_hundreds_go_together_and_every_part_is_in_one() -> None:
    built = [chosen for combination in COMBINATIONS if (chosen := fitting(combination)) is not None]
    distinct = {tuple(sorted(chosen.items())) for chosen in built}
    assert len(distinct) >= 150
    for kind, names in {**FULL, **DRAWN}.items():
        missing = set(names) - {chosen.get(kind, DEFAULTS.get(kind)) for chosen in built}
        assert not missing, f"no combination with {kind} {sorted(missing)} can be built"

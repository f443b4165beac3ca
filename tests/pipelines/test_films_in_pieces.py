"""Extend, loop and connect with autoencoders that encode films in clips of a fixed length (Open-Sora 1.2 and 1.3)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_films import tiny_dit, tiny_pipeline
from torch import Tensor

import videogen
from videogen.dit.parts import choose
from videogen.pipelines.text_to_video import TextToVideo
from videogen.tasks._shared import overlap_ahead, overlap_behind
from videogen.vae import VAESpec
from videogen.vae.framewise_temporal import MicroClipSpec
from videogen.vae.magvit import OverlapSpec

SIZE = (16, 24)
TINY: dict[str, dict[str, Any]] = {
    "framewise_temporal": {
        "frame_channels": 4,
        "channel_multipliers": (1, 1, 1, 1),
        "temporal_channels": 8,
        "temporal_multipliers": (1, 1, 1),
        "temporal_downsample": (True, True),
        "temporal_res_blocks": 1,
    },
    "magvit": {"channel_multipliers": (1, 1, 1, 1)},
}
#: lengths of samples: a last clip that is whole, and one that isn't
LENGTHS = [("framewise_temporal", 15), ("framewise_temporal", 11), ("magvit", 17)]
SPECS = {
    "plain": VAESpec(4, 4, 8, True, (), ()),
    "no first": VAESpec(4, 4, 8, False, (), ()),
    "side by side": MicroClipSpec(4, 4, 8, True, (), (), micro_frames=5),
    "in common": OverlapSpec(4, 4, 8, True, (), (), micro_frames=5),
}


def pipeline(vae: str, task: str, knobs: dict[str, Any], denoiser: Any = None) -> TextToVideo:
    built = videogen.build(
        "vae", vae, latent_channels=4, base_channels=8, num_res_blocks=1, norm_groups=4, micro_frames=5, **TINY[vae]
    )
    return tiny_pipeline(denoiser=denoiser, vae=built.eval(), task=videogen.build("task", task, **knobs))


def film(frames: int = 13) -> Tensor:
    return torch.rand(3, frames, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("num_frames", range(1, 27))
def test_what_is_common_is_whole_latent_frames(name: str, num_frames: int) -> None:
    spec = SPECS[name]
    try:
        latents = spec.latent_shape(num_frames, 16, 24)[1]
    except ValueError:
        return
    held = [set(spec.frames_of(place)) for place in range(latents)]
    for wanted in range(num_frames + 1):
        # by definition: the most frames of which none shares a latent frame with one that isn't common; where clips
        # have a frame in common it counts for the earlier of its latent frames
        first = {frame: next(latent for latent in held if frame in latent) for frame in range(num_frames)}
        ahead = [n for n in range(wanted + 1) if all(first[frame] <= set(range(n)) for frame in range(n))]
        rest = set(range(num_frames))
        behind = [
            n
            for n in range(wanted + 1)
            if all(first[f] <= rest - set(range(num_frames - n)) for f in sorted(rest)[num_frames - n :])
        ]
        assert overlap_ahead(wanted, spec) == max(ahead)
        assert overlap_behind(wanted, num_frames, spec) == max(behind)


@pytest.mark.parametrize(("vae", "num_frames"), LENGTHS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_films_go_on(vae: str, num_frames: int, direction: str) -> None:
    pipe, seen = pipeline(vae, "extend", {"length": 26, "direction": direction}), []
    pipe.denoiser.register_forward_pre_hook(lambda _, given: seen.append(given[1]))  # type: ignore[attr-defined]
    made = pipe("a circle", video=film(), num_frames=num_frames, clean_frames="any", steps=1)
    assert made.shape == (1, 3, 26, *SIZE)
    there = made[0, :, :13] if direction == "forward" else made[0, :, -13:]
    assert torch.equal(there, film())
    # all that is common is given as whole latent frames, at one end
    clean = (seen[0][0] == pipe.bridge.objective.time_of(torch.ones(()).double(), torch.zeros(()).double())).tolist()
    assert clean == sorted(clean, reverse=direction == "forward")
    assert 0 < sum(clean) < len(clean)


@pytest.mark.parametrize(("vae", "num_frames"), LENGTHS)
@pytest.mark.parametrize(("task", "knobs"), [("loop", {}), ("loop", {"back": "a red circle"}), ("connect", {})])
def test_films_are_closed_and_connected(vae: str, num_frames: int, task: str, knobs: dict[str, Any]) -> None:
    pipe, asked = pipeline(vae, task, knobs), {"num_frames": num_frames, "clean_frames": "any", "steps": 1}
    other = {"other": -film()} if task == "connect" else {}
    made = pipe("a circle", video=film(), **other, **asked)[0]
    assert torch.equal(made[:, :13], film())
    assert bool(made.isfinite().all())
    assert task == "loop" or torch.equal(made[:, -13:], -film())
    assert made.shape[1] > 13 + 13 * len(other)


def told_of_the_ends() -> Any:
    """A denoiser that is given known latents, of the first and the last frame alone."""
    torch.manual_seed(0)
    sizes = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": (1, 1, 1)}
    return videogen.build("denoiser", "dit", 4, 16, choose(known="apart"), **sizes)


@pytest.mark.parametrize("vae", TINY)
@pytest.mark.parametrize(
    ("task", "knobs", "given"),
    [
        ("extend", {"length": 26}, 0),
        ("extend", {"length": 26}, 1),
        ("loop", {}, 0),
        ("loop", {}, 1),
        ("connect", {}, 2),
    ],
)
@pytest.mark.parametrize(
    ("told", "why"), [(False, "this model makes films of text alone"), (True, "the last frame alone")]
)
def test_models_that_were_not_trained_for_it_are_refused_before_the_first_sample(
    vae: str, task: str, knobs: dict[str, Any], given: int, told: bool, why: str
) -> None:
    pipe = pipeline(vae, task, knobs, told_of_the_ends() if told else tiny_dit())
    references = dict(zip(("video", "other"), [film()] * given, strict=False))
    asked = {"num_frames": 17 if vae == "magvit" else 15, "blank": "zeros"}
    with pytest.raises(ValueError, match=why):
        pipe("a circle", callback=lambda step, latents: pytest.fail("it sampled"), **references, **asked)


def test_a_model_that_is_told_of_the_first_frame_goes_on_from_it() -> None:
    # Open-Sora 1.3's way: known latents, whose frames are encoded alone
    pipe = pipeline("magvit", "extend", {"length": 26, "overlap": 1}, told_of_the_ends())
    made = pipe("a circle", video=film(), num_frames=17, blank="zeros", steps=1)
    assert made.shape == (1, 3, 26, *SIZE)
    assert torch.equal(made[0, :, :13], film())


def test_the_second_of_two_samples_is_refused_before_the_first() -> None:
    # the first frame is what this model can be given, the last one isn't
    pipe = tiny_pipeline(
        denoiser=told_of_the_ends(),
        task=videogen.build("task", "connect", then="a red circle", overlap=5),
    )
    with pytest.raises(ValueError, match="the first frame alone"):
        pipe(
            "a circle",
            video=film(),
            other=film(),
            blank="repeat",
            callback=lambda step, latents: pytest.fail("it sampled"),
        )

"""The sampling loop: seeds, batches, guidance, and what it says of bad input."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

import videogen
from videogen.dit.parts import choose
from videogen.guidance import GUIDES
from videogen.pipelines.bridge import Bridge
from videogen.pipelines.text_to_video import Sampling, TextToVideo

SAMPLING = Sampling(num_frames=5, height=16, width=24, steps=3, guidance=2.0)


def pipeline(scheduler: str = "rectified_flow", scalars: tuple[str, ...] = (), **knobs: Any) -> TextToVideo:
    torch.manual_seed(0)
    denoiser = videogen.build(
        "denoiser",
        "dit",
        4,
        16,
        choose(time={"name": "sincos", "scalars": scalars}),
        dim=32,
        depth=2,
        num_heads=2,
        patch_size=(1, 1, 1),
    )
    # a new DiT predicts zero whatever it is told
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    words = videogen.build("text", "words", vocabulary=("a", "circle", "red"), dim=16, depth=1, num_heads=2)
    scale = dict(latent_scale=(2.0, 1.0, 0.5, 1.0), latent_shift=(0.1, 0.0, -0.2, 0.3))
    vae = videogen.build(
        "vae", "wavelet", latent_channels=4, base_channels=8, encoder_flow=8, use_attention=False, **scale
    )
    return TextToVideo(
        vae=vae,
        denoiser=denoiser,
        text=words,
        objective=videogen.build("scheduler", "rectified_flow", prediction="x0"),
        scheduler=videogen.build("scheduler", scheduler, **knobs),
        sampling=SAMPLING,
    )


def test_a_distilled_model_is_told_the_scale_of_its_guidance() -> None:
    pipe = pipeline(scalars=("guidance",))
    told: list[Any] = []
    pipe.denoiser.register_forward_pre_hook(lambda _, given: told.append(given[2].guidance))
    weak, strong = (pipe("a red circle", guidance=1.0, embedded_guidance=scale) for scale in (1.0, 6.0))
    assert [float(scale) for scale in told] == [1.0] * 3 + [6.0] * 3
    assert not torch.allclose(weak, strong, atol=1e-3)
    with pytest.raises(ValueError, match=r"embedded_guidance=6\.0: this model isn't told a scale"):
        pipeline()("a red circle", embedded_guidance=6.0)


@pytest.mark.parametrize("scheduler", ["rectified_flow", "ddim", "ddpm"])
def test_equal_seeds_give_equal_videos_alone_or_in_a_batch(scheduler: str) -> None:
    pipe = pipeline(scheduler)
    prompts = ["a red circle", "a circle", "a red a red circle"]
    together = pipe(prompts, seed=[3, 5, 7])
    assert together.shape == (3, 3, 5, 16, 24)
    for row, (prompt, seed) in enumerate(zip(prompts, (3, 5, 7), strict=True)):
        alone = pipe(prompt, seed=seed)
        # float32 sums come in another order in a batch; nothing else may differ
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=2e-4)
        assert torch.equal(alone, pipe(prompt, seed=seed))
    assert not torch.allclose(together[0], pipe(prompts[0], seed=4)[0], atol=1e-2)


def test_one_seed_serves_all_prompts_of_a_batch() -> None:
    same = pipeline()(["a red circle", "a red circle"], seed=9)
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=2e-4)


def test_the_sentence_and_the_negative_prompt_change_the_video() -> None:
    pipe = pipeline()
    plain = pipe("a red circle")
    assert (plain - pipe("a circle")).abs().max() > 1e-3
    assert (plain - pipe("a red circle", negative_prompt="circle")).abs().max() > 1e-3
    assert torch.equal(plain, pipe("a red circle", negative_prompt=" "))


def test_guidance_of_one_never_asks_for_the_absence_of_text() -> None:
    pipe = pipeline()
    asked: list[int] = []
    encode = pipe.text.null
    pipe.text.null = lambda batch: (asked.append(batch), encode(batch))[1]  # type: ignore[method-assign]
    pipe("a red circle", guidance=1.0)
    assert asked == []
    pipe("a red circle", guidance=1.5)
    assert asked == [1]


def test_latents_are_unscaled_before_decoding() -> None:
    pipe = pipeline()
    seen: list[torch.Tensor] = []
    video = pipe("a red circle", callback=lambda step, latents: seen.append(latents))
    assert len(seen) == SAMPLING.steps
    spec = pipe.vae.spec
    scale, shift = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (spec.scale, spec.shift))
    with torch.no_grad():
        torch.testing.assert_close(video, pipe.vae.decode(seen[-1] / scale + shift).clamp(-1, 1))


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ("  ", {}, "prompt 1 is empty"),
        (["a circle", ""], {}, "prompt 2 is empty"),
        ([], {}, "at least one sentence"),
        ("a circle", {"num_frames": 6}, "use 5 or 9"),
        ("a circle", {"width": 20}, "use 16 or 24"),
        ("a circle", {"height": 2**17, "width": 2**17}, "the limit is 268435456"),
        ("a circle", {"steps": 0}, "at least 1"),
        ("a circle", {"seed": [1, 2]}, "2 seeds for 1 prompts"),
    ],
)
def test_bad_input_is_refused_before_sampling(prompt: Any, changes: dict[str, Any], message: str) -> None:
    pipe = pipeline()
    with pytest.raises(ValueError, match=message):
        pipe(prompt, callback=lambda step, latents: pytest.fail("it sampled"), **changes)


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="guidanse"):
        pipeline()("a circle", guidanse=3.0)


def test_a_number_that_is_not_finite_names_stage_and_step() -> None:
    pipe = pipeline()
    torch.nn.init.constant_(pipe.denoiser.out.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="denoising step 1 of 3"):
        pipe("a red circle")
    pipe = pipeline()
    torch.nn.init.constant_(pipe.vae.decoder.out.bias, float("inf"))
    with pytest.raises(FloatingPointError, match="decoding"):
        pipe("a red circle")
    pipe = pipeline()
    for parameter in pipe.text.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    with pytest.raises(FloatingPointError, match="encoding the text"):
        pipe("a red circle")


@pytest.mark.parametrize("guide", GUIDES.names("[!t]*"))
def test_every_guide_samples_and_one_call_makes_all_predictions(guide: str) -> None:
    pipe = pipeline()
    pipe.guide = GUIDES.build(guide)
    batches: list[int] = []
    pipe.denoiser.register_forward_pre_hook(lambda _, given: batches.append(len(given[0])))
    together = pipe(["a red circle", "a circle"], seed=[3, 5], guidance=4.0)
    assert len(batches) == SAMPLING.steps
    assert set(batches) <= {2, 4}
    # a guide that remembers starts each walk anew, and each sample is guided by itself
    torch.testing.assert_close(together[:1], pipe("a red circle", seed=3, guidance=4.0), rtol=0, atol=2e-4)


def test_a_guide_of_images_says_that_there_is_none() -> None:
    pipe = pipeline()
    pipe.guide = GUIDES.build("text_image")
    with pytest.raises(ValueError, match="with the image, which this pipeline has no condition for: take guide=cfg"):
        pipe("a red circle")


@pytest.mark.parametrize("scheduler", ["unipc", "heun", "euler_ancestral"])
def test_a_solver_on_the_noise_of_the_objective_samples_alone_as_in_a_batch(scheduler: str) -> None:
    pipe = pipeline()
    solver = videogen.build("scheduler", scheduler, pipe.bridge.objective)
    pipe.scheduler, pipe.bridge = solver, Bridge(pipe.bridge.objective, solver.noise)
    together = pipe(["a red circle", "a circle"], seed=[3, 5])
    torch.testing.assert_close(together[1:], pipe("a circle", seed=5), rtol=0, atol=2e-4)


def test_sampling_defaults_are_those_of_the_model() -> None:
    assert dataclasses.asdict(pipeline().sampling) == dataclasses.asdict(SAMPLING)

"""What some models ask of the pipeline: the size in pixels, a text of their own for no text, half of what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import videogen
from videogen.denoiser import Condition, null_features
from videogen.dit.parts import choose
from videogen.pipelines.text_to_video import Sampling, TextToVideo
from videogen.text import TextFeatures

WORDS = ("a", "circle", "moving", "red", "square")


class Recorded(torch.nn.Module):
    """A denoiser that keeps what it was asked and what it said."""

    def __init__(self, denoiser: Any) -> None:
        super().__init__()
        self.inner, self.conditions, self.null_text = denoiser, denoiser.conditions, denoiser.null_text
        self.asked: list[Condition] = []
        self.said: list[Tensor] = []

    def forward(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        out: Tensor = self.inner(latents, timestep, condition)
        self.asked.append(condition)
        self.said.append(out)
        return out


def pipeline(**knobs: Any) -> TextToVideo:
    torch.manual_seed(0)
    parts = choose(position={"name": "sincos", "base": 0, "reference": 32})
    sizes = {"dim": 32, "depth": 1, "num_heads": 2, "patch_size": (1, 1, 1)}
    denoiser = videogen.build("denoiser", "dit", 4, 16, parts, **sizes, **knobs)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    vae = videogen.build("vae", "wavelet", latent_channels=4, base_channels=8, encoder_flow=8, use_attention=False)
    return TextToVideo(
        vae=vae,
        denoiser=Recorded(denoiser),
        text=videogen.build("text", "words", vocabulary=WORDS, dim=16, depth=1, num_heads=2),
        objective=videogen.build("scheduler", "rectified_flow", prediction="x0"),
        scheduler=videogen.build("scheduler", "rectified_flow"),
        sampling=Sampling(num_frames=1, height=16, width=32, steps=1, guidance=2.0),
    )


def test_a_model_is_told_the_size_in_pixels() -> None:
    pipe = pipeline()
    pipe(["a circle", "a square"])
    size = pipe.denoiser.asked[0].size
    assert size is not None
    assert size.tolist() == [[16.0, 32.0]] * 4


def test_a_learned_variance_is_left_aside() -> None:
    pipe = pipeline(learned_sigma=True)
    for guidance in (1.0, 2.0):
        pipe.denoiser.said.clear()
        seen: list[Tensor] = []
        pipe("a circle", guidance=guidance, callback=lambda step, latents, seen=seen: seen.append(latents.clone()))
        said = pipe.denoiser.said[0]
        assert said.shape[1] == 8
        # the only step ends on the predicted x0, which is the first half
        x0 = said[:1, :4] if guidance == 1.0 else said[1:, :4] + 2.0 * (said[:1, :4] - said[1:, :4])
        assert torch.allclose(seen[-1], x0, atol=1e-5)


def test_a_learned_variance_is_what_ddpm_draws_with() -> None:
    """The prediction is guided and the variance isn't; a model without one is refused before sampling."""
    chain = {"prediction": "epsilon", "variance": "learned_range"}
    pipe = pipeline(learned_sigma=True)
    pipe = TextToVideo(
        vae=pipe.vae,
        denoiser=pipe.denoiser,
        text=pipe.text,
        objective=videogen.build("scheduler", "ddpm", **chain),
        scheduler=videogen.build("scheduler", "ddpm", **chain),
        sampling=pipe.sampling,
    )
    pipe.denoiser.learned_sigma = True
    seen: list[Tensor] = []
    pipe("a circle", steps=2, guidance=2.0, callback=lambda step, latents: seen.append(latents.clone()))
    said, (noise, fresh) = pipe.denoiser.said[0], drawn(0, (4, 1, 2, 4))
    scheduler: Any = pipe.scheduler
    time, after, _ = scheduler.timesteps(2)
    start = scheduler.alpha_sigma(time)[1].float() * noise
    guided = said[1:, :4] + 2.0 * (said[:1, :4] - said[1:, :4])
    wanted = scheduler.step(torch.cat([guided, said[:1, 4:]], dim=1), time, after, start, fresh)
    torch.testing.assert_close(seen[0], wanted, rtol=0, atol=1e-4)
    pipe.denoiser.learned_sigma = False
    with pytest.raises(ValueError, match=r"this model predicts no variance, set scheduler\.variance=fixed_small"):
        pipe("a circle")


def drawn(seed: int, shape: tuple[int, ...]) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source)[None] for _ in range(2)]


def test_a_text_of_the_model_s_own_stands_for_no_text_under_the_mask_of_the_prompt() -> None:
    pipe = pipeline(null_tokens=6)
    prompts = ["a red circle moving", "a circle"]
    pipe(prompts)
    asked = pipe.denoiser.asked[0]
    own = pipe.denoiser.null_text
    length = asked.text.shape[1]
    assert torch.equal(asked.text[2:], own[:length].expand(2, -1, -1))
    assert torch.equal(asked.text_mask[2:], asked.text_mask[:2])
    # what is said to lead away from is a text like any other
    pipe.denoiser.asked.clear()
    pipe(prompts, negative_prompt="square")
    assert not torch.equal(pipe.denoiser.asked[0].text[2:, 0], own[:1].expand(2, -1))


def test_a_text_that_is_longer_than_the_model_s_own_is_refused() -> None:
    denoiser = pipeline(null_tokens=2).denoiser
    features = TextFeatures(torch.zeros(1, 3, 16), torch.ones(1, 3, dtype=torch.bool), None)
    with pytest.raises(ValueError, match="a text of 3 tokens is longer than the model's own of 2"):
        null_features(denoiser, features)
    assert null_features(pipeline().denoiser, features) is None

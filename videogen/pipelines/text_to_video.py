"""From a sentence, and images for models that take some, to a video: encode, walk from noise to latents, decode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from tqdm import tqdm

from videogen.denoiser import Condition, Denoiser, null_features
from videogen.guidance import Branch, Guide
from videogen.guidance.cfg import ClassifierFree
from videogen.pipelines.bridge import Bridge
from videogen.pipelines.conditions import branch_conditions, check_request
from videogen.pipelines.given import Given, given_frames
from videogen.pipelines.guidance import Guided
from videogen.pipelines.overflow import finite, watched
from videogen.pipelines.sampling import Sampling
from videogen.schedulers import Objective, Scheduler
from videogen.text import TextEncoder, TextFeatures
from videogen.vae import VideoVAE
from videogen.vision import VISION, ImageEncoder

Callback = Callable[[int, Tensor], None]

#: pixels (B * T * H * W) sampled at once: 32 s of 480p at 16 fps
MAX_PIXELS = 2**28


class TextToVideo:
    """The parts of one model, and the loop that samples from it.

    Args:
        vae: decodes the latents.
        denoiser: the network.
        text: encodes the sentences.
        objective: what the network was trained to predict, under which noise.
        scheduler: the sampler; it may walk on another noise schedule than the objective's.
        guide: how predictions with and without the text are combined; classifier-free guidance unless told otherwise.
        vision: encodes images, for a denoiser that reads image tokens; None encodes none.
        sampling: defaults of a call.
    """

    def __init__(
        self,
        *,
        vae: VideoVAE,
        denoiser: Denoiser,
        text: TextEncoder,
        objective: Objective,
        scheduler: Scheduler,
        guide: Guide | None = None,
        vision: ImageEncoder | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.vae, self.denoiser, self.text, self.scheduler = vae, denoiser, text, scheduler
        self.bridge = Bridge(objective, scheduler.noise)
        self.guide = guide or ClassifierFree()
        self.vision: ImageEncoder = vision or VISION.build("none")
        self.sampling = sampling or Sampling()

    @property
    def learned_variance(self) -> bool:
        """Whether the sampler asks for the variance that a model predicts beside its prediction."""
        return bool(getattr(self.scheduler, "learned_variance", False))

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        image: Tensor | Mapping[int, Tensor] | None = None,
        seed: int | Sequence[int] = 0,
        callback: Callback | None = None,
        progress: bool = False,
        **sampling: Any,
    ) -> Float[Tensor, "b 3 t h w"]:
        """Videos in [-1, 1], one a prompt.

        Args:
            prompt: a sentence, or several: a batch.
            image: the first frame (3, H, W) in [-1, 1] of all films, or one each (B, 3, H, W); or several such by the
                numbers of their frames, -1 for the last.
            seed: of the noise; one for all prompts or one each. A prompt's video depends on its own seed alone.
            callback: called after each step with its number, from 1, and the latents.
            progress: show a bar.
            sampling: overrides of `Sampling`'s fields.

        Raises:
            ValueError: an empty prompt, a length or size that the strides don't divide, more than `MAX_PIXELS`, or what
                the model can't take, said with what it can.
            FloatingPointError: a stage gave numbers that aren't finite; stage and step are named.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        settings = dataclasses.replace(self.sampling, **sampling)
        seeds = [seed] * len(prompts) if isinstance(seed, int) else list(seed)
        self.check(prompts, seeds, settings)
        given = given_frames(image, len(prompts), (settings.num_frames, settings.height, settings.width))
        check_request(self.denoiser, self.vae, self.vision, given, settings)
        shape = self.vae.spec.latent_shape(settings.num_frames, settings.height, settings.width)
        conditions = self._conditions(prompts, given, settings)
        noise = Noise(seeds, shape)
        latents = self._sample(noise, conditions, settings, callback, progress)
        spec = self.vae.spec
        scale, shift = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (spec.scale, spec.shift))
        with watched(self.vae, "decoding"):
            video = self.vae.decode(latents / scale + shift)
        return finite(video, "decoding").clamp(-1, 1)

    def check(self, prompts: Sequence[str], seeds: Sequence[int], settings: Sampling) -> None:
        """Refuse what can't be sampled, before anything is computed."""
        if not prompts:
            raise ValueError("no prompt: give at least one sentence")
        for index, sentence in enumerate(prompts):
            if not sentence.strip():
                raise ValueError(f"prompt {index + 1} is empty: say what the video should show")
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one for all, or one each")
        if settings.steps < 1:
            raise ValueError(f"steps={settings.steps}: at least 1")
        if self.learned_variance and not getattr(self.denoiser, "learned_sigma", False):
            raise ValueError(
                "scheduler.variance=learned_range: this model predicts no variance, set scheduler.variance=fixed_small"
            )
        self.vae.spec.latent_shape(settings.num_frames, settings.height, settings.width)
        pixels = len(prompts) * settings.num_frames * settings.height * settings.width
        if pixels > MAX_PIXELS:
            raise ValueError(
                f"{len(prompts)} x {settings.num_frames} frames of {settings.width}x{settings.height} are {pixels} "
                f"pixels and the limit is {MAX_PIXELS}: ask for a smaller size, fewer frames or fewer prompts at once"
            )

    def _conditions(self, prompts: list[str], given: Given, settings: Sampling) -> dict[Branch, Condition]:
        """What the network is told under each branch of the guidance: the prompts, and the negative prompt."""
        features: dict[Branch, TextFeatures] = {"full": self.text.encode(prompts)}
        # a guide that asks for the image alone can't do without one, and says so
        others = [name for name in self.guide.branches(settings.guidance)[1:] if name == "none" or given.places]
        if others:
            features |= dict.fromkeys(others, self._without(features["full"], settings.negative_prompt.strip()))
        for each in features.values():
            finite(each.tokens, "encoding the text")
        both = getattr(self.guide, "guides_image", False)
        return branch_conditions(self.denoiser, self.vae, self.vision, features, given, settings, both=both)

    def _without(self, features: TextFeatures, negative: str) -> TextFeatures:
        """The negative prompt, or the absence of text, for as many prompts."""
        batch = len(features.tokens)
        if negative:
            return self.text.encode([negative] * batch)
        return null_features(self.denoiser, features) or self.text.null(batch)

    def _sample(
        self,
        noise: Noise,
        conditions: dict[Branch, Condition],
        settings: Sampling,
        callback: Callback | None,
        progress: bool,
    ) -> Tensor:
        times = self.scheduler.timesteps(settings.steps, noise.size)
        alpha, sigma = self.scheduler.noise.alpha_sigma(times)
        network = Guided(
            self.denoiser,
            self.guide,
            scale=settings.guidance,
            rescale=settings.guidance_rescale,
            conditions=conditions,
            objective=self.bridge.objective,
            levels=(sigma / alpha)[:-1].tolist(),
            variance=self.learned_variance,
        )
        start = sigma[0].float() * noise.draw()
        walk = self.scheduler.walk(lambda x, time: self.bridge.predict(network, x, time), start, times, noise.draw)
        latents, steps = start, len(times) - 1
        for index, latents in enumerate(tqdm(walk, desc="denoising", total=steps, disable=not progress), start=1):
            finite(latents, f"denoising step {index} of {steps}")
            if callback is not None:
                callback(index, latents)
        return latents


class Noise:
    """Standard normal noise, each sample from a seed of its own, so that a batch changes nobody's video.

    Args:
        seeds: one a sample.
        shape: (C, T, H, W) of a sample's latents.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, int, int, int]) -> None:
        self.shape, self.size = shape, shape[1:]
        self.sources = [Generator().manual_seed(seed) for seed in seeds]

    def draw(self) -> Float[Tensor, "b c t h w"]:
        """The next noise of every sample."""
        return torch.stack([torch.randn(self.shape, generator=source) for source in self.sources])

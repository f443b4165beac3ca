"""From a sentence to a video: encode the text, walk from noise to latents, decode."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from tqdm import tqdm

from videogen.denoiser import Denoiser, null_features, text_condition
from videogen.pipelines.bridge import Bridge
from videogen.pipelines.guidance import guide, stack_features
from videogen.pipelines.overflow import watched
from videogen.schedulers import Scheduler
from videogen.text import TextEncoder, TextFeatures
from videogen.vae import VideoVAE

Callback = Callable[[int, Tensor], None]

#: pixels (B * T * H * W) sampled at once: 32 s of 480p at 16 fps
MAX_PIXELS = 2**28


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to sample, unless a call says otherwise.

    Args:
        num_frames: length of the video.
        height: in pixels.
        width: in pixels.
        steps: of the scheduler.
        guidance: scale of classifier-free guidance; 1 is none.
        guidance_rescale: see `guide`.
        negative_prompt: what guidance leads away from; "" is the absence of text.
        embedded_guidance: scale that a model is told which was distilled from a guided one, beside `guidance`, which
            is mostly 1 then; None for other models.
    """

    num_frames: int = 17
    height: int = 64
    width: int = 64
    steps: int = 30
    guidance: float = 4.0
    guidance_rescale: float = 0.0
    negative_prompt: str = ""
    embedded_guidance: float | None = None


class TextToVideo:
    """The parts of one model, and the loop that samples from it.

    Args:
        vae: decodes the latents.
        denoiser: the network.
        text: encodes the sentences.
        objective: what the network was trained to predict, under which noise.
        scheduler: the sampler; it may walk on another noise schedule than the objective's.
        sampling: defaults of a call.
    """

    def __init__(
        self,
        *,
        vae: VideoVAE,
        denoiser: Denoiser,
        text: TextEncoder,
        objective: Scheduler,
        scheduler: Scheduler,
        sampling: Sampling | None = None,
    ) -> None:
        self.vae, self.denoiser, self.text, self.scheduler = vae, denoiser, text, scheduler
        self.bridge = Bridge(objective, scheduler)
        self.sampling = sampling or Sampling()

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        callback: Callback | None = None,
        progress: bool = False,
        **sampling: Any,
    ) -> Float[Tensor, "b 3 t h w"]:
        """Videos in [-1, 1], one a prompt.

        Args:
            prompt: a sentence, or several: a batch.
            seed: of the noise; one for all prompts or one each. A prompt's video depends on its own seed alone.
            callback: called after each step with its number, from 1, and the latents.
            progress: show a bar.
            sampling: overrides of `Sampling`'s fields.

        Raises:
            ValueError: an empty prompt, a length or size that the strides don't divide, or more than `MAX_PIXELS`.
            FloatingPointError: a stage gave numbers that aren't finite; stage and step are named.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        settings = dataclasses.replace(self.sampling, **sampling)
        seeds = [seed] * len(prompts) if isinstance(seed, int) else list(seed)
        self.check(prompts, seeds, settings)
        shape = self.vae.spec.latent_shape(settings.num_frames, settings.height, settings.width)
        features = self._encode(prompts, settings)
        noise = Noise(seeds, shape)
        latents = self._sample(noise, features, settings, callback, progress)
        spec = self.vae.spec
        scale, shift = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (spec.scale, spec.shift))
        with watched(self.vae, "decoding"):
            video = self.vae.decode(latents / scale + shift)
        return _finite(video, "decoding").clamp(-1, 1)

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
        if settings.embedded_guidance is not None and "guidance" not in self.denoiser.conditions:
            raise ValueError(
                f"embedded_guidance={settings.embedded_guidance}: this model isn't told a scale, leave it out and set "
                "guidance"
            )
        self.vae.spec.latent_shape(settings.num_frames, settings.height, settings.width)
        pixels = len(prompts) * settings.num_frames * settings.height * settings.width
        if pixels > MAX_PIXELS:
            raise ValueError(
                f"{len(prompts)} x {settings.num_frames} frames of {settings.width}x{settings.height} are {pixels} "
                f"pixels and the limit is {MAX_PIXELS}: ask for a smaller size, fewer frames or fewer prompts at once"
            )

    def _encode(self, prompts: list[str], settings: Sampling) -> TextFeatures:
        """Features of the prompts; with guidance, those of the negative prompts behind them."""
        features = self.text.encode(prompts)
        if settings.guidance != 1.0:
            negative = settings.negative_prompt.strip()
            if negative:
                without = self.text.encode([negative] * len(prompts))
            else:
                without = null_features(self.denoiser, features) or self.text.null(len(prompts))
            features = stack_features(features, without)
        _finite(features.tokens, "encoding the text")
        return features

    def _sample(
        self, noise: Noise, features: TextFeatures, settings: Sampling, callback: Callback | None, progress: bool
    ) -> Tensor:
        size = settings.height, settings.width
        condition = text_condition(features, self.denoiser.conditions, size, settings.embedded_guidance)

        def network(sample: Tensor, timestep: Tensor) -> Tensor:
            repeats = 1 if settings.guidance == 1.0 else 2
            batch = sample.repeat(repeats, 1, 1, 1, 1)
            # no sampler here asks for a learned variance, which stands behind the prediction
            predicted = self.denoiser(batch, timestep.expand(len(batch)), condition)[:, : sample.shape[1]]
            if repeats == 1:
                return predicted
            conditional, unconditional = predicted.chunk(2)
            return guide(conditional, unconditional, settings.guidance, settings.guidance_rescale)

        times = self.scheduler.timesteps(settings.steps, noise.tokens)
        _, sigma = self.scheduler.alpha_sigma(times[0])
        latents = sigma.float() * noise.draw()
        steps = list(pairwise(times))
        for index, (time, next_time) in enumerate(tqdm(steps, desc="denoising", disable=not progress), start=1):
            prediction = self.bridge.predict(network, latents, time)
            fresh = noise.draw() if self.scheduler.stochastic else None
            latents = self.scheduler.step(prediction, time, next_time, latents, fresh)
            _finite(latents, f"denoising step {index} of {len(steps)}")
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
        self.shape, self.tokens = shape, shape[1] * shape[2] * shape[3]
        self.sources = [Generator().manual_seed(seed) for seed in seeds]

    def draw(self) -> Float[Tensor, "b c t h w"]:
        """The next noise of every sample."""
        return torch.stack([torch.randn(self.shape, generator=source) for source in self.sources])


def _finite(values: Tensor, stage: str) -> Tensor:
    if not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).sum())
        raise FloatingPointError(f"{stage} gave {bad} values that are NaN or infinite: no video was made")
    return values

"""One sample of a request: what the model is told, the walk from noise to latents, and their video."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from tqdm import tqdm

from videogen.denoiser import Condition, null_features
from videogen.guidance import Branch
from videogen.pipelines.conditions import branch_conditions, check_request
from videogen.pipelines.free_init import check_free_init, started_over
from videogen.pipelines.given import Given, given_frames
from videogen.pipelines.guidance import Guided
from videogen.pipelines.known import Kept, Pasted, Plan, clean_latents, plan_known
from videogen.pipelines.latents import decode_film, encode_film
from videogen.pipelines.overflow import finite, watched
from videogen.pipelines.sampling import Sampling
from videogen.pipelines.windows import seen_at_once, windowed
from videogen.tasks import Known, Start
from videogen.text import TextFeatures

if TYPE_CHECKING:
    from videogen.pipelines.text_to_video import TextToVideo
    from videogen.schedulers import Network

Callback = Callable[[int, Tensor], None]


class Sampler:
    """Samples films of some sentences: what a task is given as `videogen.tasks.Sample`.

    Args:
        pipeline: the parts.
        prompts: one sentence a film.
        seeds: of the noise, one a film; each call goes on where the one before it ended.
        settings: how to sample.
        callback: called after each step with its number, from 1, and the latents.
        progress: show a bar.
    """

    def __init__(
        self,
        pipeline: TextToVideo,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: Sampling,
        callback: Callback | None = None,
        progress: bool = False,
    ) -> None:
        self.parts, self.prompts, self.settings = pipeline, prompts, settings
        self.sources = [Generator().manual_seed(seed) for seed in seeds]
        self.device, self.dtype = pipeline.place
        self.callback, self.progress = callback, progress

    def __call__(
        self,
        num_frames: int,
        *,
        known: Known | None = None,
        start: Start | None = None,
        prompts: Sequence[str] | None = None,
    ) -> Float[Tensor, "b 3 t h w"]:
        """See `videogen.tasks.Sample`."""
        prompts, parts = self.prompts if prompts is None else prompts, self.parts
        settings, plan, given = self._checked(num_frames, known, prompts)
        given = dataclasses.replace(given, images=given.images.to(self.device))
        conditions = self._conditions(prompts, given, settings, start.of if start else None)
        latents = self._rounds(lambda: self._network(conditions, known, plan, settings), start, settings)
        with watched(parts.vae, "decoding"):
            video = decode_film(parts.vae, latents)
        return finite(video, "decoding").clamp(-1, 1).cpu()

    def check(self, num_frames: int, known: Known) -> None:
        """See `videogen.tasks.Sample`."""
        self._checked(num_frames, known, self.prompts)

    def _checked(self, num_frames: int, known: Known | None, prompts: Sequence[str]) -> tuple[Sampling, Plan, Given]:
        """How to sample, and how the model is told what is known, or why it can't be."""
        settings, parts = dataclasses.replace(self.settings, num_frames=num_frames), self.parts
        parts.check(prompts, settings)
        plan = plan_known(known, parts.denoiser.conditions, settings.clean_frames, parts.vae.spec)
        given = plan.given or given_frames(None, len(prompts), (num_frames, settings.height, settings.width))
        check_request(parts.denoiser, parts.vae, parts.vision, given, settings)
        return settings, plan, given

    def _conditions(
        self, prompts: Sequence[str], given: Given, settings: Sampling, away: Sequence[str] | None
    ) -> dict[Branch, Condition]:
        """What the network is told under each branch of the guidance: the prompts, and the negative prompt.

        Args:
            away: sentences in place of the negative prompt, one each.
        """
        parts = self.parts
        features: dict[Branch, TextFeatures] = {"full": parts.text.encode(list(prompts))}
        # a guide that asks for the image alone can't do without one, and says so
        others = [name for name in parts.guide.branches(settings.guidance)[1:] if name == "none" or given.places]
        if others:
            without = self._without(features["full"], settings.negative_prompt.strip())
            features |= dict.fromkeys(others, without if away is None else parts.text.encode(list(away)))
        for each in features.values():
            finite(each.tokens, "encoding the text")
        both = getattr(parts.guide, "guides_image", False)
        told = branch_conditions(parts.denoiser, parts.vae, parts.vision, features, given, settings, both=both)
        return {branch: condition.to(self.device, self.dtype) for branch, condition in told.items()}

    def _without(self, features: TextFeatures, negative: str) -> TextFeatures:
        """The negative prompt, or the absence of text, for as many prompts."""
        batch = len(features.tokens)
        if negative:
            return self.parts.text.encode([negative] * batch)
        return null_features(self.parts.denoiser, features) or self.parts.text.null(batch)

    def _network(
        self, conditions: dict[Branch, Condition], known: Known | None, plan: Plan, settings: Sampling
    ) -> Network:
        """The guided denoiser, which keeps what is known."""
        parts = self.parts
        network: Network = Guided(
            windowed(parts.denoiser, settings, parts.vae.spec),
            parts.guide,
            scale=settings.guidance,
            rescale=settings.guidance_rescale,
            conditions=conditions,
            objective=parts.bridge.objective,
            levels=self._levels(settings)[:-1],
            variance=parts.learned_variance,
            dtype=self.dtype,
        )
        if plan.pasted is not None:
            network = Pasted(network, parts.bridge.objective, parts.vae, plan.pasted)
        if plan.clean is not None:
            assert known is not None
            network = Kept(network, parts.bridge.objective, clean_latents(parts.vae, known), plan.clean)
        return network

    def _rounds(self, network: Callable[[], Network], start: Start | None, settings: Sampling) -> Tensor:
        """The latents to which the scheduler walks, in the last round of several.

        Args:
            network: makes one for each walk.
        """
        parts, times = self.parts, self._times(settings)
        if start is not None:
            times = times[len(times) - 1 - max(1, round(start.strength * (len(times) - 1))) :]
        alpha, sigma = (level[0].float() for level in parts.scheduler.noise.alpha_sigma(times))
        check_free_init(settings, (alpha, sigma), from_film=start is not None)
        noise = self._initial(settings)
        latents = sigma * noise
        if start is not None:
            latents = latents + alpha * encode_film(parts.vae, start.film)
        latents = self._walk(network(), latents, times)
        for index in range(settings.free_init):
            latents = started_over(latents, noise, self._initial(settings), (alpha, sigma), settings)
            latents = self._walk(network(), latents, times, before=(index + 1) * (len(times) - 1))
        return latents

    def _walk(self, network: Network, latents: Tensor, times: Tensor, before: int = 0) -> Tensor:
        """The latents to which the scheduler walks from these, with what is known in them.

        Args:
            before: steps of the rounds before.
        """
        parts, shape = self.parts, (latents.shape[1], latents.shape[2], latents.shape[3], latents.shape[4])
        walk = parts.scheduler.walk(
            lambda x, time: parts.bridge.predict(network, x, time), latents, times, lambda: self._noise(shape)
        )
        steps = len(times) - 1
        for index, latents in enumerate(tqdm(walk, desc="denoising", total=steps, disable=not self.progress), start=1):
            finite(latents, f"denoising step {index} of {steps}")
            if self.callback is not None:
                self.callback(before + index, latents)
        return network.keep(latents) if isinstance(network, Kept) else latents

    def _times(self, settings: Sampling) -> Tensor:
        """The times that are visited; where they depend on the size, on that of what the model sees at once."""
        _, frames, height, width = self._shape(settings)
        seen = seen_at_once(settings, self.parts.vae.spec)
        return self.parts.scheduler.timesteps(
            settings.steps, (min(seen.length, frames) if seen else frames, height, width)
        )

    def _levels(self, settings: Sampling) -> list[float]:
        """The noise levels sigma / alpha of the times that are visited."""
        alpha, sigma = self.parts.scheduler.noise.alpha_sigma(self._times(settings))
        levels: list[float] = (sigma / alpha).tolist()
        return levels

    def _shape(self, settings: Sampling) -> tuple[int, int, int, int]:
        return self.parts.vae.spec.latent_shape(settings.num_frames, settings.height, settings.width)

    def _initial(self, settings: Sampling) -> Float[Tensor, "b c t h w"]:
        """What films begin as, each of a seed of its own too."""
        seen, shape = seen_at_once(settings, self.parts.vae.spec), self._shape(settings)
        noise = [self.parts.initial_noise.draw(shape, source, seen) for source in self.sources]
        return torch.stack(noise).to(self.device)

    def _noise(self, shape: tuple[int, int, int, int]) -> Float[Tensor, "b c t h w"]:
        """Standard normal noise, each film's from a seed of its own, so that a batch changes nobody's video."""
        return torch.stack([torch.randn(shape, generator=source) for source in self.sources]).to(self.device)

"""From sentences, and what else a task takes, to videos: the parts of one model, and what they refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.denoiser import Denoiser
from videogen.guidance import Guide
from videogen.guidance.cfg import ClassifierFree
from videogen.initial_noise import InitialNoise
from videogen.initial_noise.independent import Independent
from videogen.pipelines.bridge import Bridge
from videogen.pipelines.request import make_request
from videogen.pipelines.sampler import Callback, Sampler
from videogen.pipelines.sampling import Sampling
from videogen.schedulers import Objective, Scheduler
from videogen.tasks import TASKS, Task, check_pixels
from videogen.text import TextEncoder
from videogen.vae import VideoVAE
from videogen.vision import VISION, ImageEncoder


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
        task: what films are made from beside sentences; sentences alone, and images, unless told otherwise.
        initial_noise: what films begin as; independent in every frame unless told otherwise.
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
        task: Task | None = None,
        initial_noise: InitialNoise | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.vae, self.denoiser, self.text, self.scheduler = vae, denoiser, text, scheduler
        self.bridge = Bridge(objective, scheduler.noise)
        self.guide = guide or ClassifierFree()
        self.vision: ImageEncoder = vision or VISION.build("none")
        self.task: Task = task or TASKS.build("text_to_video")
        self.initial_noise = initial_noise or Independent()
        self.sampling = sampling or Sampling()

    def to(self, device: torch.device | str, precision: torch.dtype | None = None) -> Self:
        """The pipeline itself, with its networks on a device.

        Noise is drawn on the CPU wherever the networks are, so that a seed gives the same noise everywhere; films come
        back on the CPU.

        Args:
            device: "cpu", "cuda", ….
            precision: dtype of the denoiser's weights and of those of the encoders of text and images; None leaves them
                as they are. The VAE stays as it is: it takes little beside them, and half precision shows in its films.
        """
        for part in (self.denoiser, self.text, self.vision, self.vae):
            if isinstance(part, nn.Module):
                part.to(device, None if part is self.vae else precision)
        return self

    @property
    def place(self) -> tuple[torch.device, torch.dtype]:
        """Where the denoiser computes, and in which precision: as its weights say, else float32 on the CPU."""
        weight = next(self.denoiser.parameters(), None) if isinstance(self.denoiser, nn.Module) else None
        return (torch.device("cpu"), torch.float32) if weight is None else (weight.device, weight.dtype)

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
        video: Float[Tensor, "*b 3 t h w"] | None = None,
        other: Float[Tensor, "*b 3 t h w"] | None = None,
        mask: Bool[Tensor, "*t h w"] | None = None,
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
            video: a film (3, T, H, W) in [-1, 1] that the task goes on from, or one each (B, 3, T, H, W).
            other: a second one, for a task that takes two.
            mask: what is made anew of the film, (H, W) or (T, H, W).
            seed: of the noise; one for all prompts or one each. A prompt's video depends on its own seed alone.
            callback: called after each step with its number, from 1, and the latents.
            progress: show a bar.
            sampling: overrides of `Sampling`'s fields.

        Raises:
            ValueError: an empty prompt, a length or size that the strides don't divide, more pixels than the limit, or
                what the model or the task can't take, said with what it can.
            FloatingPointError: a stage gave numbers that aren't finite; stage and step are named.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        settings = dataclasses.replace(self.sampling, **sampling)
        seeds = [seed] * len(prompts) if isinstance(seed, int) else list(seed)
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one for all, or one each")
        self.check(prompts, settings)
        references = {"image": image, "video": video, "other": other, "mask": mask}
        request = make_request(self.task, prompts, settings, self.vae.spec, references)
        return self.task.run(request, Sampler(self, prompts, seeds, settings, callback, progress))

    def check(self, prompts: Sequence[str], settings: Sampling) -> None:
        """Refuse what can't be sampled, before anything is computed."""
        if not prompts:
            raise ValueError("no prompt: give at least one sentence")
        for index, sentence in enumerate(prompts):
            if not sentence.strip():
                raise ValueError(f"prompt {index + 1} is empty: say what the video should show")
        if settings.steps < 1:
            raise ValueError(f"steps={settings.steps}: at least 1")
        if self.learned_variance and not getattr(self.denoiser, "learned_sigma", False):
            raise ValueError(
                "scheduler.variance=learned_range: this model predicts no variance, set scheduler.variance=fixed_small"
            )
        self.vae.spec.latent_shape(settings.num_frames, settings.height, settings.width)
        check_pixels(len(prompts), settings.num_frames, settings.height, settings.width)

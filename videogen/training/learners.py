"""What learns and from which loss: a learner gives the training loop its modules and the loss of one step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from videogen.data import Dataset
from videogen.denoiser import Condition, null_features, text_condition
from videogen.text import TextFeatures
from videogen.training.draw import device_of, draw_shape, generator, generator_on
from videogen.training.known import draw_known
from videogen.training.latents import LatentCache
from videogen.training.settings import TrainSettings
from videogen.training.vae_losses import VAELoss
from videogen.vae import Posterior

# clips that statistics are taken over
STATISTICS = 128


class Learner(Protocol):
    """One training objective."""

    #: what is trained, averaged and exported
    modules: nn.ModuleDict
    #: what is trained along by an optimiser of its own, such as a discriminator; neither averaged nor exported
    critics: nn.ModuleDict

    def start(self) -> None:
        """What a new run does once, before its first step."""
        ...

    def loss(self, step: int, source: Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The loss of a step, whose gradient serves modules and critics alike, and the numbers to log."""
        ...


class VAELearner:
    """Reconstruction of clips, by the terms of `VAELoss`.

    Args:
        vae: the autoencoder.
        dataset: gives the clips.
        settings: of the run; `part` "vae_decoder" keeps the encoder as it is, so that its latents keep their meaning.

    Raises:
        ValueError: settings that the loss refuses.
    """

    def __init__(self, vae: Any, dataset: Dataset, settings: TrainSettings) -> None:
        self.vae, self.dataset, self.settings = vae, dataset, settings
        self.device = device_of(vae)
        self.decoder_only = settings.part == "vae_decoder"
        self.modules = nn.ModuleDict({"vae": vae})
        if self.decoder_only:
            vae.encoder.requires_grad_(False)
        self.losses = VAELoss(vae, settings)
        self.critics = self.losses.critics

    def start(self) -> None:
        """Let a VAE that can start from statistics of the clips do so."""
        if hasattr(self.vae, "fit") and not self.decoder_only:
            source = generator(self.settings.seed, -2)
            shapes = [draw_shape(self.settings, source) for _ in range(STATISTICS)]
            self.vae.fit(self.dataset.clip(index, *shape).video.to(self.device) for index, shape in enumerate(shapes))

    def loss(self, step: int, source: Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The loss of a batch of clips, or of images, drawn for this step."""
        shape = draw_shape(self.settings, source)
        first = step * self.settings.batch_size
        clips = [self.dataset.clip(first + i, *shape) for i in range(self.settings.batch_size)]
        video = torch.stack([clip.video for clip in clips]).to(self.device)
        posterior, latents = self._encode(video, source)
        decoded = self.vae.decode(latents).float()
        error, numbers = self.losses.reconstruction(video, decoded, source)
        order, said = self.losses.latents(posterior, video[0].numel())
        loss = error if self.decoder_only else error + order
        adversarial, fight = self.losses.adversarial(video, decoded, error, step)
        return loss + adversarial, {"loss": loss.item(), **numbers, **said, **fight}

    def _encode(self, video: Tensor, source: Generator) -> tuple[Posterior, Tensor]:
        """The posterior and latents drawn from it; where only the decoder learns, its mode, and nothing is moved."""
        if not self.decoder_only:
            posterior = self.vae.encode(video)
            return posterior, posterior.sample(generator_on(source, self.device))
        with torch.no_grad(), _evaluating(self.vae):
            posterior = self.vae.encode(video)
            return posterior, posterior.mode()

    @torch.no_grad()
    def latent_statistics(self, clips: int = STATISTICS) -> tuple[list[float], list[float]]:
        """Shift and scale per channel that make the latents of the training clips zero-mean and of unit variance."""
        source = generator(self.settings.seed, -1)
        latents = []
        with _evaluating(self.vae):
            for index in range(clips):
                clip = self.dataset.clip(index, *draw_shape(self.settings, source))
                video = clip.video[None].to(self.device)
                latents.append(self.vae.encode(video).mode().flatten(2).squeeze(0).cpu())
        every = torch.cat(latents, dim=1).double()
        shift, scale = every.mean(1), 1 / every.std(1)
        return [round(v, 5) for v in shift.tolist()], [round(v, 5) for v in scale.tolist()]


class DenoiserLearner:
    """A denoiser and its text encoder, on latents of clips, by the objective's weighted squared error.

    Args:
        vae: frozen; gives the latents.
        denoiser: the network.
        text: the encoder of the sentences; trained along when it is an open module with gradients.
        objective: noise, target and weights; with a learned variance, the loss of that too.
        dataset: gives clips with sentences.
        settings: of the run.

    Raises:
        ValueError: an objective with a learned variance, for a model that predicts none.
    """

    def __init__(
        self,
        vae: Any,
        denoiser: Any,
        text: Any,
        objective: Any,
        dataset: Dataset,
        settings: TrainSettings,
    ) -> None:
        self.vae, self.denoiser, self.text, self.objective = vae.eval().requires_grad_(False), denoiser, text, objective
        self.dataset, self.settings = dataset, settings
        self.learns_variance = bool(getattr(objective, "learned_variance", False))
        if self.learns_variance and not getattr(denoiser, "learned_sigma", False):
            raise ValueError("objective.variance=learned_range: set denoiser.learned_sigma=true, or another variance")
        self.modules = nn.ModuleDict({"denoiser": denoiser})
        if isinstance(text, nn.Module) and any(p.requires_grad for p in text.parameters()):
            self.modules["text"] = text
        self.critics = nn.ModuleDict()
        spec, self.device = vae.spec, device_of(denoiser)
        self.shift = torch.tensor(spec.shift, device=self.device).view(-1, 1, 1, 1)
        self.scale = torch.tensor(spec.scale, device=self.device).view(-1, 1, 1, 1)
        cache = Path(settings.output) / "latents"
        if settings.compile:
            for block in denoiser.blocks:
                block.compile(dynamic=True)
        self.cache = LatentCache.open(cache, vae, dataset, settings) if settings.cached_clips else None

    def start(self) -> None:
        """Nothing: a denoiser starts from random weights."""

    def loss(self, step: int, source: Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Weighted squared error of the prediction at random times."""
        raw, texts = self._batch(step, source)
        x0 = (raw - self.shift) * self.scale
        dropped = torch.rand(len(texts), generator=source) < self.settings.text_dropout
        features = self._encode(texts, dropped)
        stride = self.vae.spec.spatial_stride
        condition = text_condition(features, self.denoiser.conditions, (x0.shape[3] * stride, x0.shape[4] * stride))
        # times stay on the CPU until the network takes them: to look at them there would wait for the card
        times = self.objective.sample_times(len(texts), source)
        noise = torch.randn(x0.shape, generator=generator_on(source, self.device), device=self.device)
        times, condition, learnt = self._with_known(x0, times, condition, source)
        noisy = self.objective.add_noise(x0, noise, times)
        output = self.denoiser(noisy, times.to(self.device), condition).float()
        # a variance that the model may predict as well stands behind
        prediction = output[:, : x0.shape[1]]
        errors = (prediction - self.objective.target(x0, noise, times)).square().mean((1, 3, 4))
        weights = self.objective.loss_weight(times).to(errors)
        weighted = errors * (weights if weights.ndim == 2 else weights[:, None])
        if self.learns_variance:
            weighted = weighted + self.objective.variance_loss(output, x0, noisy, times).float().mean((1, 3, 4))
        # each clip counts as much as the others, however much of it is known
        loss, error = (_mean(values, learnt.to(self.device)).mean() for values in (weighted, errors))
        return loss, {"loss": loss.detach(), "error": error.detach()}

    def _with_known(
        self, x0: Tensor, times: Tensor, condition: Condition, source: Generator
    ) -> tuple[Tensor, Condition, Tensor]:
        """Times and condition with known frames in them, and the frames (B, T) that are learnt.

        A model that takes known latents gets them beside the noisy ones, zeros elsewhere, and learns all frames; to any
        other, what is known is there without noise, at a time of its own.
        """
        every = torch.ones(len(x0), x0.shape[2], dtype=torch.bool)
        beside = "known" in self.denoiser.conditions
        if not beside and not self.settings.known:
            return times, condition, every
        known = draw_known(len(x0), x0.shape[2], self.settings.known, source)
        if beside:
            there = known.to(self.device)
            mask = there if "known_mask" in self.denoiser.conditions else None
            given = x0 * there[:, None, :, None, None]
            return times, dataclasses.replace(condition, known=given, known_mask=mask), every
        one = torch.ones((), dtype=torch.float64)
        return times[:, None].where(~known, self.objective.time_of(one, 0 * one)), condition, ~known

    def _encode(self, texts: list[str], dropped: Tensor) -> TextFeatures:
        """The texts, those that are dropped as the absence of text."""
        features: TextFeatures
        # a model with a text of its own for that puts it under the mask of the one that is dropped
        if getattr(self.denoiser, "null_text", None) is None:
            features = self.text.encode(["" if drop else text for drop, text in zip(dropped, texts, strict=True)])
            return features
        features = self.text.encode(texts)
        without = null_features(self.denoiser, features)
        assert without is not None
        tokens = without.tokens.where(dropped[:, None, None].to(self.device), features.tokens)
        return TextFeatures(tokens, features.mask, features.pooled)

    def _batch(self, step: int, source: Generator) -> tuple[Tensor, list[str]]:
        shape = draw_shape(self.settings, source)
        if self.cache is not None:
            return self.cache.batch(shape, self.settings.batch_size, source, self.device)
        first = step * self.settings.batch_size
        clips = [self.dataset.clip(first + i, *shape) for i in range(self.settings.batch_size)]
        with torch.no_grad():
            latents = self.vae.encode(torch.stack([clip.video for clip in clips]).to(self.device)).mode()
        return latents, [clip.text for clip in clips]


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean of what counts in each row, (B, T) -> (B,)."""
    return values.where(counted, 0.0).sum(1) / counted.sum(1)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: in training mode, to encode also moves batch norms and codebooks."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)

"""All terms of a VAE's loss, from a clip, its reconstruction and the posterior of its latents."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from videogen.training.discriminator import PatchDiscriminator, adaptive_weight, hinge_loss
from videogen.training.draw import device_of
from videogen.training.perceptual import PerceptualDistance, draw_frames
from videogen.training.settings import TrainSettings
from videogen.vae import Posterior

ERRORS = {"l1": F.l1_loss, "l2": F.mse_loss}


@runtime_checkable
class Quantised(Protocol):
    """A posterior of codes: its encoder is to stay near them. Whatever VAE gives one gets this term."""

    def commitment_loss(self, weight: float) -> Tensor:
        """The term of the loss, weighted."""
        ...

    def perplexity(self) -> Tensor:
        """How many codes are in use."""
        ...


class VAELoss:
    """Error of the reconstruction, what keeps the latents in order, and, if asked for, perceptual and adversarial loss.

    Args:
        vae: the adversarial loss is weighed at its last layer.
        settings: of the run.

    Raises:
        ValueError: a perceptual loss without weights, or with weights that don't fit, or on frames that its network
            can't take.
    """

    def __init__(self, vae: Any, settings: TrainSettings) -> None:
        self.vae, self.settings = vae, settings
        self.perceptual = _perceptual(settings) if settings.perceptual else None
        self.discriminator = (
            PatchDiscriminator(channels=settings.discriminator_channels) if settings.discriminator else None
        )
        for module in (self.perceptual, self.discriminator):
            if module is not None:
                module.to(device_of(vae))
        self.critics = nn.ModuleDict({"discriminator": self.discriminator} if self.discriminator else {})

    def reconstruction(self, video: Tensor, decoded: Tensor, source: Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean error of the values (B, 3, T, H, W), plus the weighted perceptual distance of a few frames."""
        error = ERRORS[self.settings.reconstruction](decoded, video)
        # the peak of [-1, 1] is 2
        numbers = {"psnr": 10 * torch.log10(4 / F.mse_loss(decoded.detach(), video)).item()}
        if self.perceptual is not None:
            distance = self.perceptual(*draw_frames((decoded, video), self.settings.perceptual_frames, source))
            error = error + self.settings.perceptual * distance
            numbers["perceptual"] = distance.item()
        return error, numbers

    def latents(self, posterior: Posterior, values: int) -> tuple[Tensor, dict[str, float]]:
        """The weighted KL per value of the video, of which a clip has so many; of codes, also their commitment loss."""
        kl = posterior.kl().float().mean() / values
        loss, numbers = self.settings.kl_weight * kl, {"kl": kl.item()}
        if isinstance(posterior, Quantised):
            commitment = posterior.commitment_loss(self.settings.commitment_weight)
            loss = loss + commitment
            numbers |= {"commitment": commitment.item(), "perplexity": posterior.perplexity().item()}
        return loss, numbers

    def adversarial(
        self, video: Tensor, decoded: Tensor, error: Tensor, step: int
    ) -> tuple[Tensor | float, dict[str, float]]:
        """What the decoder and the discriminator learn from each other; 0 until it starts.

        It is a sum of two losses with weights apart: the gradient of the first ends at the VAE's, that of the second at
        the discriminator's, so that one backward pass serves both.
        """
        if self.discriminator is None or step < self.settings.discriminator_start:
            return 0.0, {}
        fooling = -self.discriminator.judge(decoded).mean()
        weight = adaptive_weight(error, fooling, last_layer(self.vae))
        telling = hinge_loss(self.discriminator(video), self.discriminator(decoded.detach()))
        numbers = {"fooling": fooling.item(), "fooling_weight": weight.item(), "discriminator": telling.item()}
        return self.settings.discriminator * weight * fooling + telling, numbers


def last_layer(vae: Any) -> Tensor:
    """The weights that give the video: decoders name their layers in the order in which they run."""
    weights: Tensor = [parameter for parameter in vae.decoder.parameters() if parameter.ndim > 1][-1]
    return weights


def _perceptual(settings: TrainSettings) -> PerceptualDistance:
    if not settings.perceptual_weights:
        raise ValueError(
            f"train.perceptual={settings.perceptual} needs the weights of {settings.perceptual_model!r}, and "
            "train.perceptual_weights names none: give a local safetensors file with timm's weights of that model, or "
            "train.perceptual=0"
        )
    distance = PerceptualDistance(settings.perceptual_model, settings.perceptual_weights)
    for height, width in settings.sizes:
        distance.check(height, width)
    return distance

"""A network under guidance: all predictions that a guide needs at a moment, in one batched call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from videogen.denoiser import Condition, Denoiser
from videogen.guidance import Branch, Guide, Moment
from videogen.schedulers import NoiseSchedule


class Guided:
    """(x_t, time) of the objective -> its guided prediction; for one walk.

    Args:
        denoiser: the network.
        guide: how its predictions are combined.
        scale: of the guidance; 1 is none.
        rescale: see `rescaled`.
        conditions: of each branch that the guide may need, for the whole batch; equal fields are set in all.
        objective: what the network predicts, and on which noise.
        levels: noise levels sigma / alpha at which the walk's steps start, descending.
        variance: give the variance that the network predicts as well, (B, 2 C, T, H, W) in all.
        dtype: of the latents that the network takes; predictions are in the sample's. None is the sample's too.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        guide: Guide,
        *,
        scale: float,
        rescale: float,
        conditions: Mapping[Branch, Condition],
        objective: NoiseSchedule,
        levels: Sequence[float],
        variance: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        if missing := set(guide.branches(scale)) - set(conditions):
            raise ValueError(
                f"this guide needs a prediction without {'text, with the image' if 'image' in missing else 'text'}, "
                "which this pipeline has no condition for: take guide=cfg"
            )
        self.denoiser, self.guide, self.scale, self.rescale = denoiser, guide.start(), scale, rescale
        self.conditions, self.objective, self.levels = conditions, objective, levels
        self.variance, self.dtype = variance, dtype
        # conditions remember what layers make of them, so a batch of several stays the same object
        self._stacked: dict[tuple[Branch, ...], Condition] = {}

    def __call__(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """(B, C, T, H, W) at a time (), (B,) or, per frame, (B, T) -> (B, C, T, H, W)."""
        moment = self._moment(timestep)
        branches = self.guide.branches(self.scale, moment)
        batch = sample.repeat(len(branches), 1, 1, 1, 1)
        times = timestep.expand(len(sample)) if timestep.ndim == 0 else timestep
        times = torch.cat([times] * len(branches)).to(sample.device)
        output = self.denoiser(batch.to(self.dtype), times, self._condition(branches)).to(sample.dtype)
        # a learned variance stands behind the prediction; most samplers, and the published ones of most such models,
        # leave it aside, and none guides it
        predicted, variance = output[:, : sample.shape[1]], output[: len(sample), sample.shape[1] :]
        predictions: dict[Branch, Tensor] = dict(zip(branches, predicted.chunk(len(branches)), strict=True))
        guided = self._combined(predictions, sample, timestep, moment)
        return torch.cat([guided, variance], dim=1) if self.variance else guided

    def _combined(
        self, predictions: Mapping[Branch, Tensor], sample: Tensor, timestep: Tensor, moment: Moment
    ) -> Tensor:
        if len(predictions) == 1:
            return predictions["full"]
        if self.guide.on_x0:
            clean = {name: self.objective.split(each, sample, timestep)[0] for name, each in predictions.items()}
            x0 = self.guide.combine(clean, self.scale, moment)
            guided = self.objective.join(x0, self.objective.noise_of(x0, sample, timestep), timestep)
        else:
            guided = self.guide.combine(predictions, self.scale, moment)
        return rescaled(guided, predictions["full"], self.rescale)

    def _condition(self, branches: tuple[Branch, ...]) -> Condition:
        if branches not in self._stacked:
            self._stacked[branches] = stack_conditions([self.conditions[branch] for branch in branches])
        return self._stacked[branches]

    def _moment(self, timestep: Tensor) -> Moment:
        alpha, sigma = self.objective.alpha_sigma(timestep)
        level = float((sigma / alpha).max())
        # a method may ask within a step: what counts is the step that starts there, or before
        step = sum(start >= level * (1 - 1e-6) for start in self.levels) - 1
        return Moment(max(step, 0), len(self.levels), level)


def rescaled(guided: Tensor, full: Tensor, rescale: float) -> Tensor:
    """The guided prediction with its standard deviation brought back to the full one's (B, C, T, H, W), by a part.

    Args:
        rescale: 0 to 1, that part (Lin et al., arXiv 2305.08891, eq. 15 and 16).
    """
    if rescale == 0.0:
        return guided
    axes = tuple(range(1, guided.ndim))
    matched = guided * (full.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
    return rescale * matched + (1 - rescale) * guided


def stack_conditions(conditions: Sequence[Condition]) -> Condition:
    """Conditions of batches as that of one batch; a text shorter than the longest is padded and masked.

    Raises:
        ValueError: a field that is set in some alone.
    """
    if len(conditions) == 1:
        return conditions[0]
    fields: dict[str, Tensor] = {}
    for name in conditions[0].given():
        tensors = [condition.given().get(name) for condition in conditions]
        present = [tensor for tensor in tensors if tensor is not None]
        if len(present) < len(tensors):
            raise ValueError(f"condition.{name} is set in some branches of the guidance alone: set it in all or none")
        fields[name] = torch.cat(_equally_long(present) if name in ("text", "text_mask") else present)
    return Condition(**fields)


def _equally_long(tensors: Sequence[Tensor]) -> list[Tensor]:
    """(B, L, ...) of several lengths, padded with zeros to the longest."""
    length = max(tensor.shape[1] for tensor in tensors)
    pads = [(0, 0) * (tensor.ndim - 2) + (0, length - tensor.shape[1]) for tensor in tensors]
    return [torch.nn.functional.pad(tensor, pad) for tensor, pad in zip(tensors, pads, strict=True)]

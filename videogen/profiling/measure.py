"""What one denoising step and one decoding take, from a run on the meta device: nothing is allocated."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from videogen.bounded.memory import Peak
from videogen.denoiser import Condition
from videogen.profiling.groups import SCORES, group_of
from videogen.profiling.meter import Meter


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a computation takes.

    Args:
        flops: group -> floating-point operations, a multiply-add as two.
        bytes: the most that lies in memory at once beside the weights, inputs included. What an operator takes for
            itself while it runs isn't seen.
    """

    flops: Counter[str]
    bytes: int


class Inputs(NamedTuple):
    """The shapes of what a denoiser takes.

    Args:
        batch: sequences of a step: with guidance twice as many as clips.
        latents: (C, T, H, W) of one.
        text_length: tokens of a sentence.
        text_dim: width of the text tokens.
        pooled_dim: width of the pooled text.
    """

    batch: int
    latents: tuple[int, int, int, int]
    text_length: int
    text_dim: int
    pooled_dim: int

    def draw(self, denoiser: Any, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Condition]:
        """Random latents, times and condition, on the default device: what the denoiser takes of text, and what it
        can't do without."""
        batch, taken, frames = self.batch, denoiser.conditions, self.latents[1]
        fields: dict[str, Tensor] = {"text": torch.randn(batch, self.text_length, self.text_dim, dtype=dtype)}
        if "text_mask" in taken:
            fields["text_mask"] = torch.ones(batch, self.text_length, dtype=torch.bool)
        if "pooled" in taken:
            fields["pooled"] = torch.randn(batch, self.pooled_dim, dtype=dtype)
        for name in getattr(denoiser, "required", frozenset()):
            if name == "fps":
                fields[name] = torch.full((batch,), 8.0)
            elif name == "known":
                fields[name] = torch.randn(batch, *self.latents, dtype=dtype)
            elif name == "image":
                # how many there are is an image encoder's to say, unless each frame has its own
                length = frames * denoiser.image_tokens_per_frame or self.text_length
                fields[name] = torch.randn(batch, length, self.text_dim, dtype=dtype)
        return torch.randn(batch, *self.latents, dtype=dtype), torch.rand(batch), Condition(**fields)


def denoising_cost(denoiser: Any, inputs: Inputs, dtype: torch.dtype = torch.float32) -> Cost:
    """One step, the first of a clip: the following ones leave out what depends on the text alone.

    Args:
        denoiser: on the meta device, in `dtype`.
        inputs: their shapes.
        dtype: of latents and text.

    Raises:
        ValueError: sizes that the denoiser refuses.
    """
    return _cost(denoiser, lambda: denoiser(*inputs.draw(denoiser, dtype)), group_of, SCORES)


def decoding_cost(vae: Any, latents: tuple[int, int, int, int], batch: int, dtype: torch.dtype = torch.float32) -> Cost:
    """Decoding a batch of clips, all operations under "VAE".

    Args:
        vae: on the meta device, in `dtype`; one within a budget of memory decodes in its pieces.
        latents: (C, T, H, W) of one.
        batch: clips.
        dtype: of the latents.
    """
    return _cost(vae, lambda: vae.decode(torch.empty(batch, *latents, dtype=dtype)), lambda path: "VAE", None)


def _cost(module: nn.Module, run: Callable[[], Any], group: Callable[[str], str], scores: str | None) -> Cost:
    module.eval()
    with Peak() as peak, Meter(module, group, scores) as meter:
        run()
    return Cost(meter.flops, peak.bytes)

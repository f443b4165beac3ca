"""What one denoising step and one decoding take, from a run on the meta device: nothing is allocated."""

from __future__ import annotations

import contextlib
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
from videogen.profiling.repeats import Repeats

#: of an image in CLIP's towers with patches of 14: 16 x 16 and one for the whole
CLIP_TOKENS = 257


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
        """Random latents, times and condition on the default device, with all that the denoiser takes but padding."""
        batch, frames = self.batch, self.latents[1]
        length, width = _image_tokens(denoiser, frames, self.text_dim)
        makers: dict[str, Callable[[], Tensor]] = {
            "text": lambda: torch.randn(batch, self.text_length, self.text_dim, dtype=dtype),
            "text_mask": lambda: torch.ones(batch, self.text_length, dtype=torch.bool),
            "pooled": lambda: torch.randn(batch, self.pooled_dim, dtype=dtype),
            "image": lambda: torch.randn(batch, length, width, dtype=dtype),
            "fps": lambda: torch.full((batch,), 8.0),
            "guidance": lambda: torch.full((batch,), 5.0),
            # of any size: what is computed doesn't depend on it
            "size": lambda: torch.full((batch, 2), 512.0),
            "known": lambda: torch.randn(batch, *self.latents, dtype=dtype),
            "known_mask": lambda: torch.ones(batch, frames, dtype=torch.bool),
        }
        fields = {name: make() for name, make in makers.items() if name in denoiser.conditions}
        return torch.randn(batch, *self.latents, dtype=dtype), torch.rand(batch), Condition(**fields)


def _image_tokens(denoiser: Any, frames: int, text_dim: int) -> tuple[int, int]:
    """How many image tokens a denoiser gets, and how wide they are."""
    embedding = getattr(denoiser, "image", None)
    if embedding is not None and embedding.image_dim:
        return embedding.count or CLIP_TOKENS, embedding.image_dim
    # a U-Net takes them at the text's width, and each frame may have its own
    return frames * getattr(denoiser, "image_tokens_per_frame", 0) or CLIP_TOKENS, text_dim


def denoising_cost(
    denoiser: Any, inputs: Inputs, dtype: torch.dtype = torch.float32, *, every_layer: bool = False
) -> Cost:
    """One step, the first of a clip: the following ones leave out what depends on the text alone.

    Args:
        denoiser: on the meta device, in `dtype`.
        inputs: their shapes.
        dtype: of latents and text.
        every_layer: run those too that are like one that was run, which finds the same and takes longer.

    Raises:
        ValueError: sizes that the denoiser refuses.
    """
    return _cost(denoiser, lambda: denoiser(*inputs.draw(denoiser, dtype)), group_of, SCORES, every_layer)


def decoding_cost(vae: Any, latents: tuple[int, int, int, int], batch: int, dtype: torch.dtype = torch.float32) -> Cost:
    """Decoding a batch of clips in one piece, all operations under "VAE".

    What coding on a CPU does instead, see `videogen.vae._lean`, is many small steps of other operations: it would take
    minutes to look through for a large clip, and isn't what other devices do.

    Args:
        vae: on the meta device, in `dtype`; one within a budget of memory decodes in its pieces.
        latents: (C, T, H, W) of one.
        batch: clips.
        dtype: of the latents.
    """
    # as where a gradient is asked for; none is
    vae.requires_grad_(False)

    def decode() -> None:
        with torch.enable_grad():
            vae.decode(torch.empty(batch, *latents, dtype=dtype))

    return _cost(vae, decode, lambda path: "VAE", None)


def _cost(
    module: nn.Module,
    run: Callable[[], Any],
    group: Callable[[str], str],
    scores: str | None,
    every_layer: bool = True,
) -> Cost:
    module.eval()
    with contextlib.ExitStack() as stack:
        peak, meter = stack.enter_context(Peak()), stack.enter_context(Meter(module, group, scores))
        if not every_layer:
            stack.enter_context(Repeats(module, peak, meter))
        run()
    return Cost(meter.flops, peak.bytes)

"""A model of one size, looked through: shapes, parameters, operations and memory, without allocating any of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import torch
from torch import nn

from videogen.profiling.groups import parameters
from videogen.profiling.measure import Cost, Inputs, decoding_cost, denoising_cost

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Study:
    """What a model takes for clips of one size.

    Args:
        inputs: of the denoiser.
        grid: tokens along time, height and width; latents, for a denoiser that makes no patches.
        parameters: of each part: "denoiser", "VAE", "text encoder", and "image encoder" where there is one.
        groups: of the denoiser, by group.
        step: a denoising step in each dtype.
        decoding: of the clips, in each dtype.
    """

    inputs: Inputs
    grid: tuple[int, int, int]
    parameters: dict[str, int]
    groups: Counter[str]
    step: dict[str, Cost]
    decoding: dict[str, Cost]

    def weights(self, part: str, dtype: str) -> int:
        """Bytes of a part's parameters."""
        size: int = self.parameters[part] * getattr(torch, dtype).itemsize
        return size

    def bytes(self, dtype: str) -> int:
        """The most that all weights and the larger of the two computations take together."""
        busiest = max(cost.bytes for cost in (self.step[dtype], self.decoding[dtype]))
        return sum(self.weights(part, dtype) for part in self.parameters) + busiest


def look_through(vae: Any, denoiser: Any, text: Any, inputs: Inputs, batch: int, vision: Any = None) -> Study:
    """Study the parts of a model.

    Args:
        vae: on the meta device, in float32; its weights are in bfloat16 afterwards.
        denoiser: likewise.
        text: the encoder, or an `EncoderSize`.
        inputs: of the denoiser.
        batch: clips.
        vision: the image encoder, if there is one.

    Raises:
        ValueError: sizes that a part refuses.
    """
    step, decoding = {}, {}
    for name in DTYPES:
        dtype = getattr(torch, name)
        step[name] = denoising_cost(denoiser.to(dtype), inputs, dtype)
        decoding[name] = decoding_cost(vae.to(dtype), inputs.latents, batch, dtype)
    held = {"denoiser": _count(denoiser), "VAE": _count(vae), "text encoder": _count(text)}
    t, h, w = inputs.latents[1:]
    pt, ph, pw = getattr(denoiser, "patch_size", (1, 1, 1))
    return Study(
        inputs=inputs,
        grid=(t // pt, h // ph, w // pw),
        parameters=held | ({"image encoder": seen} if (seen := _count(vision)) else {}),
        groups=parameters(denoiser),
        step=step,
        decoding=decoding,
    )


def _count(part: Any) -> int:
    if isinstance(part, nn.Module):
        return sum(value.numel() for value in part.parameters())
    # an encoder without a folder has its usual size
    return int(getattr(part, "num_parameters", 0))

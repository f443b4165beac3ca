"""Random weights that a seed makes, so that a published implementation's numbers need no file of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

Shapes = Mapping[str, Sequence[int]]


def seeded(shapes: Shapes) -> dict[str, Tensor]:
    """Random tensors of these shapes, whose signal keeps its size; numpy promises this stream for good."""
    source, made = np.random.RandomState(0), {}
    for key in sorted(shapes):
        noise = torch.from_numpy(np.asarray(source.standard_normal(tuple(shapes[key])), dtype=np.float32))
        if noise.ndim > 1:
            noise = noise / noise[0].numel() ** 0.5
        elif noise.ndim == 1:
            # the one-dimensional weights are those of norms
            noise = 0.1 * noise + float(key.endswith("weight"))
        made[key] = noise
    return made

"""Memory around what a kernel reads and writes, so that a step outside its tensors is seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

MARGIN, SENTINEL = 37, 1234.0


def fenced(tensor: Tensor) -> Tensor:
    """The same numbers in a larger tensor of NaN: one that is read from outside spreads."""
    sides = (1, 1) * tensor.ndim
    around = torch.nn.functional.pad(tensor, sides, value=float("nan"))
    inside = around[tuple(slice(1, -1) for _ in range(tensor.ndim))]
    # channels beside each other, as kernels have them; all other strides are unusual
    assert inside.stride(-1) == 1
    return inside.requires_grad_(tensor.requires_grad)


@contextlib.contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every tensor that is made inside lies between two fences, whose numbers must be as they were in the end."""
    plain, made = torch.empty, []

    def empty(*shape: Any, dtype: Any = None, device: Any = None, **more: Any) -> Tensor:
        sizes = torch.Size(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        if dtype is None or not dtype.is_floating_point or more or sizes.numel() == 0:
            return plain(*shape, dtype=dtype, device=device, **more)
        around = torch.full((sizes.numel() + 2 * MARGIN,), SENTINEL, dtype=dtype, device=device)
        made.append(around)
        inside = around[MARGIN:-MARGIN]
        inside.fill_(float("nan"))
        return inside.view(sizes)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", empty)
        yield
    assert made, "nothing was made in here"
    for around in made:
        assert (around[:MARGIN] == SENTINEL).all()
        assert (around[-MARGIN:] == SENTINEL).all()

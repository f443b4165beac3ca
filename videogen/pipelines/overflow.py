"""Numbers that aren't finite: which stage gave them, and in half precision which layer passed 65,504."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def watched(part: Any, stage: str) -> Iterator[None]:
    """Inside the `with` block, the first layer of a float16 part that gives NaN or infinity ends the computation.

    Nothing is watched in other dtypes, whose range is wide enough (bfloat16's is float32's): what they give is checked
    where it comes out.

    Args:
        part: an `nn.Module`; anything else isn't watched.
        stage: "decoding", for the message.

    Raises:
        FloatingPointError: names the layer; raised from within the block.
    """
    weight = next(part.parameters(), None) if isinstance(part, nn.Module) else None
    if weight is None or weight.dtype != torch.float16:
        yield
        return
    handles = [
        layer.register_forward_hook(_hook(name, type(layer).__name__, stage))
        for name, layer in part.named_modules()
        if name and next(layer.children(), None) is None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, kind: str, stage: str) -> Any:
    def check(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            raise FloatingPointError(
                f"{stage} in float16: layer {name} ({kind}) gave NaN or values beyond 65504: use bfloat16 or float32"
            )

    return check


def finite(values: Tensor, stage: str) -> Tensor:
    """The values themselves; FloatingPointError, naming the stage, where one is NaN or infinite."""
    if not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).sum())
        raise FloatingPointError(f"{stage} gave {bad} values that are NaN or infinite: no video was made")
    return values

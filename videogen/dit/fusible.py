"""Which small operations of a DiT run fused: one choice for a whole model, which the layers that have some read."""

from __future__ import annotations

from torch import nn

from videogen.kernels.fused import FUSED, Fused


class Fusible(nn.Module):
    """A layer that leaves its small operations to `ops`: plain torch, unless its model is told otherwise."""

    ops: Fused = FUSED.build("torch")


def fuse(model: nn.Module, ops: Fused) -> None:
    """Let all layers of a model leave their small operations to `ops`."""
    for module in model.modules():
        if isinstance(module, Fusible):
            module.ops = ops

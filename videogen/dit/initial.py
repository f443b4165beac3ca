"""How a DiT's linear layers start."""

from __future__ import annotations

from torch import nn


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer with DiT's initialisation: Xavier-uniform weights, zero bias."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def zero_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear layer that starts as zero, so that the branch it ends starts as nothing."""
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.zeros_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer

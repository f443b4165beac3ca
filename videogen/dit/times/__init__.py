"""How noisy a clip is, and what goes with that, such as its frame rate: the vector that modulates the blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from videogen.denoiser import Condition


class Time(Protocol):
    """From timesteps to the vector that modulates the blocks; built as `time(width, *, knobs)`, an nn.Module."""

    #: width of that vector
    dim: int
    #: the fields of the condition that it reads
    conditions: frozenset[str]

    def scaled(self, timestep: Tensor) -> Tensor:
        """Timesteps as the model counts them, in float32 or float64."""
        ...

    def __call__(self, timestep: Tensor, dtype: torch.dtype, condition: Condition | None = None) -> Tensor:
        """(B, F) -> (B, F, dim) in `dtype`, with the numbers that the condition gives."""
        ...


TIMES: Registry[Any] = Registry("dit/time", "videogen.dit.times")

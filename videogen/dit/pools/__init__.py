"""What the text as a whole adds to the embedded timestep; built as `pool(text_dim, pooled_dim, dim)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from videogen.denoiser import Condition
    from videogen.kernels import Attention


class Pool(Protocol):
    """From the text of a condition to one vector of the timestep's width; an nn.Module."""

    #: the fields of the condition that it reads beside text and text_mask
    conditions: ClassVar[frozenset[str]]

    def __call__(self, condition: Condition, kernel: Attention) -> Tensor | None:
        """(B, D), or None where the condition has nothing to pool."""
        ...


POOLS: Registry[Any] = Registry("dit/pool", "videogen.dit.pools")

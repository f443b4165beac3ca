"""How tokens know where they stand: codes added to them, rotations of queries and keys, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from videogen.dit.rotary import Rotary


class Position(Protocol):
    """Where tokens stand on a (T, H, W) grid; built as `Position(dim, num_heads, *, knobs)`, an nn.Module.

    One whose attribute `turns_by_size` is True has `size=` given to its `rotary` too, as `add` has.
    """

    #: the fields of Condition that it uses: "fps" reaches its rotation, and with "size" `add` is also given `size=`
    conditions: frozenset[str]

    def add(self, tokens: Tensor, grid: tuple[int, int, int], valid: Tensor | None, **fields: Tensor | None) -> Tensor:
        """Tokens (B, N, D) with their code added to them; `valid` (B, N) is False for padding, sizes are (B, 2)."""
        ...

    def rotary(self, grid: tuple[int, int, int], device: torch.device, fps: Tensor | None = None) -> Rotary | None:
        """The rotation of each token's queries and keys, or None; `fps` (B,) is the frames a second of each clip."""
        ...


POSITIONS: Registry[Any] = Registry("dit/position", "videogen.dit.positions")

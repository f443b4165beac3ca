"""Small operations of a transformer block that can run as one pass over memory: the contract, and who keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

Activation = Literal["gelu", "silu"]


class Turns(Protocol):
    """Rotary positions as `videogen.dit.rotary.Rotary` holds them, see there."""

    @property
    def cos(self) -> Tensor:
        """(N, 1 or heads, head_dim) or (B, N, …), float32."""
        ...

    @property
    def sin(self) -> Tensor:
        """Of the same shape, negative at a pair's first channel."""
        ...

    @property
    def runs(self) -> tuple[int, ...]:
        """Channels whose halves are each other's partners; (2,) repeats to the end."""
        ...

    def turn(self, x: Tensor) -> Tensor:
        """(B, N, heads, head_dim) -> the same, each pair of channels turned."""
        ...


class Fused(Protocol):
    """The operations of a block that a model leaves to such a part.

    An implementation says in `support` what it takes, and refuses the rest with the reason and what takes it.
    """

    def qk_norm_rope(
        self,
        q: Tensor,
        k: Tensor,
        norm_q: Callable[[Tensor], Tensor],
        norm_k: Callable[[Tensor], Tensor],
        rotary: Turns | None,
    ) -> tuple[Tensor, Tensor]:
        """Queries and keys, normalised and turned; all (B, N, heads, head_dim), views of a packed projection or not.

        Args:
            q: queries.
            k: keys.
            norm_q: a norm of one head, or of all of them at once.
            norm_k: the same for keys.
            rotary: None without rotary positions.
        """
        ...

    def residual_norm(
        self,
        tokens: Tensor,
        out: Tensor,
        gate: Tensor | None,
        norm: nn.Module,
        shift: Tensor | None,
        scale: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Out of one residual branch and into the next.

        new = tokens + gate * out, and what the next branch sees, norm(new) * (1 + scale) + shift.

        Args:
            tokens: (B, N, D).
            out: (B, N, D), of the branch that is left.
            gate: (B, 1 or N, D); None is 1.
            norm: of the branch that is entered.
            shift: (B, 1 or N, D); None is 0.
            scale: (B, 1 or N, D).
        """
        ...

    def gated(self, packed: Tensor, activation: Activation) -> Tensor:
        """value * activation(gate), where `packed` (…, 2 D) holds value and gate; (…, D)."""
        ...


FUSED: Registry[Fused] = Registry("fused", "videogen.kernels.fused")

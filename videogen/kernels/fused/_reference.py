"""The small operations in plain torch: the default, and the truth that the fused ones are compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.kernels.fused import Activation, Turns

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "silu": F.silu}


class PlainOps:
    """What `videogen.kernels.fused.Fused` asks for, an operation of torch's after the other."""

    def qk_norm_rope(
        self,
        q: Tensor,
        k: Tensor,
        norm_q: Callable[[Tensor], Tensor],
        norm_k: Callable[[Tensor], Tensor],
        rotary: Turns | None,
    ) -> tuple[Tensor, Tensor]:
        """(B, N, heads, head_dim) each -> the same."""
        q, k = norm_q(q), norm_k(k)
        return (q, k) if rotary is None else (rotary.turn(q), rotary.turn(k))

    def residual_norm(
        self, tokens: Tensor, out: Tensor, gate: Tensor | None, norm: nn.Module, shift: Tensor | None, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, N, D) -> tokens and what the next branch sees, each (B, N, D)."""
        tokens = tokens + out if gate is None else mix(tokens, gate, out)
        entered = norm(tokens)
        return tokens, entered * (1 + scale) if shift is None else mix(shift, 1 + scale, entered)

    def gated(self, packed: Tensor, activation: Activation) -> Tensor:
        """(…, 2 D) -> (…, D)."""
        value, gate = packed.chunk(2, dim=-1)
        return value * ACTIVATIONS[activation](gate)


def mix(start: Tensor, factor: Tensor, x: Tensor) -> Tensor:
    """start + factor * x, (B, N, D); x isn't needed any more, and where no gradient asks for it, it is written over."""
    # autocast leaves the stream of tokens wider than what a branch gives
    fits = start.dtype == factor.dtype == x.dtype and not torch.is_grad_enabled()
    return torch.addcmul(start, factor, x, out=x if fits else None)

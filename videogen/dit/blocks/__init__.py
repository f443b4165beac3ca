"""Transformer blocks, one a file: the DiT asks of a block what stands here, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class BlockCondition:
    """What a DiT hands to each of its blocks.

    Args:
        grid: (T, H, W), the number of tokens along each axis; N = T * H * W, time outermost.
        time: embedded timestep, one for all tokens (B, 1, D), one a frame (B, T, D) or one a token (B, N, D);
            `layers.Modulation` takes all three.
        rotary: cosine and sine of the rotation angles of each token, (N, head_dim / 2) each; None without RoPE.
        text: text tokens (B, L, D), already at the model's width.
        text_mask: (B, L) bool, True for words.
        valid: (B, N) bool, False for padding; None when nothing is padded.
    """

    grid: tuple[int, int, int]
    time: Tensor
    rotary: tuple[Tensor, Tensor] | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None
    valid: Tensor | None = None


class Block(Protocol):
    """One transformer layer on video tokens; built as `Block(dim, num_heads, attention, *, knobs)`."""

    def __call__(self, tokens: Tensor, condition: BlockCondition) -> Tensor:
        """(B, N, D) -> (B, N, D) on the grid of the condition."""
        ...


BLOCKS: Registry[Any] = Registry("dit/block", "videogen.dit.blocks")

"""Transformer blocks, one a file: the DiT asks of a block what stands here, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from videogen.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from videogen.dit.rotary import Rotary
    from videogen.kernels import Attention


@dataclasses.dataclass(frozen=True)
class BlockCondition:
    """What a DiT hands to each of its blocks.

    Args:
        grid: (T, H, W), the number of tokens along each axis; N = T * H * W, time outermost.
        time: what the modulation made of the timestep, (B, F, …) with F = 1, T or N; `kit.modulation` takes all three.
        text_time: (B, 1, …), the same for the text, from the noisiest frame; None is `time`, with F = 1.
        rotary: the rotation of each token's queries and keys; None without RoPE.
        text_mask: (B, L) bool, True for words.
        image: image tokens (B, L_image, D), already at the model's width.
        null: the text for none, as `text` is, (1, L, D); None where no frames are known, or nobody reads it.
        known: (B, T) bool, True for frames that are known; with `null` alone.
        valid: (B, N) bool, False for padding; None when nothing is padded.
        memo: what a layer computed from the condition alone, by layer, kept from step to step; None where nothing
            is to be kept, as in training.
    """

    grid: tuple[int, int, int]
    time: Tensor
    text_time: Tensor | None = None
    rotary: Rotary | None = None
    text_mask: Tensor | None = None
    image: Tensor | None = None
    null: Tensor | None = None
    known: Tensor | None = None
    valid: Tensor | None = None
    memo: dict[Any, Any] | None = None

    def of_text(self) -> BlockCondition:
        """The same for a layer that modulates the text.

        Raises:
            ValueError: times a frame or token, and none for the text.
        """
        if self.text_time is None and self.time.shape[1] != 1:
            raise ValueError(f"{self.time.shape[1]} times a sample, and none for the text: give text_time")
        return self if self.text_time is None else dataclasses.replace(self, time=self.text_time)


@dataclasses.dataclass(frozen=True)
class Kit:
    """What all blocks of one model are made of, each chosen by name: a block decides how they are put together.

    Args:
        attention: the kernel.
        modulation: `modulation(dim, branches)`, a layer from the condition to one `Branch` a residual branch; see
            `videogen.dit.modulations.Modulation.layer`.
        qk_norm: `qk_norm(num_heads, head_dim)`, a norm of queries or keys (B, N, heads, head_dim).
        mlp: `mlp(dim)`, (B, N, D) -> (B, N, D).
        cross: `cross(dim, num_heads, kit)`, how tokens read the text; a block without such a layer ignores it.
        bias: whether the projections of an attention have one.
        text_dim: width of the text; None is that of the tokens.
    """

    attention: Attention
    modulation: Callable[..., nn.Module]
    qk_norm: Callable[[int, int], nn.Module]
    mlp: Callable[[int], nn.Module]
    cross: Callable[[int, int, Kit], nn.Module]
    bias: bool = True
    text_dim: int | None = None


class Block(Protocol):
    """One transformer layer on video tokens; built as `Block(dim, num_heads, kit, *, knobs)`.

    One that doesn't go with every other part says so, see `videogen.dit.compatibility`.
    """

    def __call__(self, tokens: Tensor, text: Tensor | None, condition: BlockCondition) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, D) and text (B, L, D) -> both, for the next block; one that only reads the text returns it.

        A model without text has none.
        """
        ...


BLOCKS: Registry[Any] = Registry("dit/block", "videogen.dit.blocks")

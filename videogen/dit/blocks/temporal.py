"""Temporal attention: tokens attend along time at their own place; the other half of a factorized pair."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BLOCKS, BlockCondition, Kit
from videogen.dit.codes import clip_axis, frame_code
from videogen.dit.layers import PatternBlock
from videogen.dit.patterns import Temporal


@BLOCKS.register("temporal")
class TemporalBlock(PatternBlock):
    """Self-attention along time at each position, MLP: every other layer of Latte (variant 1).

    https://arxiv.org/abs/2401.03048, section 3.2.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        text: whether it reads the text; STDiT3's does, Latte's doesn't.
        time_code: add a fixed sin-cos code of the frame's number divided by this to the tokens of clips of several
            frames, as the first such layer of Latte does; None adds none.
        stills: whether clips of one frame go through this layer; in Open-Sora-Plan they skip it.

    Raises:
        ValueError: a divisor that isn't above 0, or an odd width with a code.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kit: Kit,
        *,
        text: bool = True,
        time_code: float | None = None,
        stills: bool = True,
    ) -> None:
        if time_code is not None and (time_code <= 0 or dim % 2):
            raise ValueError(f"time_code={time_code} divides frames, for tokens of even width {dim}: give one above 0")
        super().__init__(dim, num_heads, kit, Temporal(), text)
        self.time_code, self.stills = time_code, stills

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l d"] | None]:
        """(B, N, D) -> (B, N, D) with N = T * H * W; the text stays as it is."""
        if condition.grid[0] == 1 and not self.stills:
            return tokens, text
        _, length = clip_axis(condition.grid, 0, tokens.device, condition.valid)
        # of clips in a padded batch, (B or 1, 1, 1)
        still = (length == 1)[..., None]
        moved = tokens
        if self.time_code is not None:
            code = frame_code(condition.grid, self.time_code, tokens, condition.valid)
            moved = tokens + code.masked_fill(still, 0.0)
        moved, text = super().forward(moved, text, condition)
        return moved if self.stills else tokens.where(still, moved), text

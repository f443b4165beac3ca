"""Open-Sora 1.0's block: attention within frames, then along time on the bare tokens, in one branch's modulation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from videogen.dit.blocks import BLOCKS, BlockCondition, Kit
from videogen.dit.branch import onwards
from videogen.dit.codes import frame_code
from videogen.dit.fusible import Fusible
from videogen.dit.layers import SelfAttention
from videogen.dit.patterns import Spatial, Temporal


@BLOCKS.register("stdit")
class STDiTBlock(Fusible):
    """Spatial attention, temporal attention, attention to the text, MLP: STDiT, https://arxiv.org/abs/2412.20404.

    Temporal attention was put into the trained block of an image model: it has no norm of its own, sees the tokens as
    they are, and leaves through the gate of the spatial one.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        time_code: let temporal attention see a fixed sin-cos code of the frame's number divided by this beside the
            tokens, as in the first layer of STDiT; None for none.

    Raises:
        ValueError: a divisor that isn't above 0, or an odd width with a code.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit, *, time_code: float | None = None) -> None:
        if time_code is not None and (time_code <= 0 or dim % 2):
            raise ValueError(f"time_code={time_code} divides frames, for tokens of even width {dim}: give one above 0")
        super().__init__()
        self.time_code = time_code
        self.modulation = kit.modulation(dim, 2)
        self.spatial = SelfAttention(dim, num_heads, kit, Spatial())
        self.temporal = SelfAttention(dim, num_heads, kit, Temporal())
        self.cross = kit.cross(dim, num_heads, kit)
        self.mlp = kit.mlp(dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l d"] | None]:
        """(B, N, D) -> (B, N, D) with N = T * H * W; the text stays as it is."""
        attend, feed = self.modulation(condition)
        tokens = attend.leave(tokens, self.spatial(attend.enter(tokens), condition))
        seen = tokens
        if self.time_code is not None:
            seen = tokens + frame_code(condition.grid, self.time_code, tokens, condition.valid)
        out, left = self.temporal(seen, condition), attend
        if text is not None:
            tokens = attend.leave(tokens, out)
            out, left = self.cross(tokens, text, condition), None
        tokens, seen = onwards(self.ops, tokens, out, left, feed)
        return feed.leave(tokens, self.mlp(seen)), text

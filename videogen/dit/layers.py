"""What transformer blocks are made of: attention with its projections, and the plain block of attention and MLP."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition, Kit
from videogen.dit.branch import onwards
from videogen.dit.fusible import Fusible
from videogen.dit.initial import linear
from videogen.dit.patterns import Heads, Pattern
from videogen.dit.rotary import Rotary
from videogen.kernels import attend_axes


class SelfAttention(Fusible):
    """Multi-head attention among tokens under a pattern, with rotated and normalised queries and keys.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: kernel and norms.
        pattern: which tokens attend to which.

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit, pattern: Pattern) -> None:
        super().__init__()
        head_dim = check_heads(dim, num_heads)
        self.num_heads, self.kernel, self.pattern = num_heads, kit.attention, pattern
        self.qkv = linear(dim, 3 * dim, kit.bias)
        self.norm_q, self.norm_k = kit.qk_norm(num_heads, head_dim), kit.qk_norm(num_heads, head_dim)
        self.out = linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "b n d"], condition: BlockCondition) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D); no token attends to one that isn't valid."""
        axes = self.pattern.axes(condition.grid) if condition.valid is None else None
        if axes is None or self.kernel.support.axes:
            q, k, v = self._turned(self._packed(tokens), condition.rotary)
            return self._projected(self.pattern.attend(self.kernel, q, k, v, condition.grid, condition.valid))
        rotary = condition.rotary
        moved = not axes.strided
        if moved:
            # tokens that no stride reaches are put in order while they are one tensor, not three
            tokens, rotary = axes.gather(tokens), None if rotary is None else rotary.gathered(axes)
        q, k, v = self._turned(self._apart(tokens) if axes.groups else self._packed(tokens), rotary)
        out = self._projected(attend_axes(self.kernel, q, k, v, axes.gathered if moved else axes))
        return axes.scatter(out) if moved else out

    def _packed(self, tokens: Tensor) -> Heads:
        """Queries, keys and values (B, N, heads, head_dim), of a token side by side."""
        heads = "b n (three heads c) -> three b n heads c"
        return Heads(*rearrange(self.qkv(tokens), heads, three=3, heads=self.num_heads).unbind(0))

    def _apart(self, tokens: Tensor) -> Heads:
        """The same as three tensors: a token's heads next to its neighbour's, so that positions can count as heads."""
        if type(self.qkv) is not nn.Linear or self.qkv._forward_hooks or self.qkv._forward_pre_hooks:
            # what stands in for the layer, as an adapter does, or listens to it gets its call
            return self._packed(tokens)
        biases = (None,) * 3 if self.qkv.bias is None else self.qkv.bias.chunk(3)
        products = (F.linear(tokens, *part) for part in zip(self.qkv.weight.chunk(3), biases, strict=True))
        return Heads(*(x.unflatten(-1, (self.num_heads, -1)) for x in products))

    def _turned(self, heads: Heads, rotary: Rotary | None) -> Heads:
        return Heads(*self.ops.qk_norm_rope(heads.q, heads.k, self.norm_q, self.norm_k, rotary), heads.v)

    def _projected(self, attended: Tensor) -> Tensor:
        out: Tensor = self.out(attended.flatten(2))
        return out


class PatternBlock(Fusible):
    """Self-attention under a pattern, attention to the text, MLP: the block of most published models.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: what it is made of.
        pattern: which tokens attend to which.
        text: whether it reads the text.
    """

    def __init__(self, dim: int, num_heads: int, kit: Kit, pattern: Pattern, text: bool = True) -> None:
        super().__init__()
        self.modulation = kit.modulation(dim, 2)
        self.attention = SelfAttention(dim, num_heads, kit, pattern)
        self.cross = kit.cross(dim, num_heads, kit) if text else None
        self.mlp = kit.mlp(dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l d"] | None]:
        """(B, N, D) -> (B, N, D) with N = T * H * W; the text stays as it is."""
        attend, feed = self.modulation(condition)
        out, left = self.attention(attend.enter(tokens), condition), attend
        if self.cross is not None and text is not None:
            tokens = attend.leave(tokens, out)
            out, left = self.cross(tokens, text, condition), None
        tokens, seen = onwards(self.ops, tokens, out, left, feed)
        return feed.leave(tokens, self.mlp(seen)), text


def check_heads(dim: int, num_heads: int) -> int:
    """The head_dim of `num_heads` heads in `dim` channels; ValueError if they don't divide."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"dim {dim} can't be split over {num_heads} heads: num_heads must divide it")
    return dim // num_heads

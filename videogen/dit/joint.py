"""Two streams, the video's tokens and the text's, that attend to each other in one softmax."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition, Kit
from videogen.dit.branch import Branch
from videogen.dit.fusible import Fusible
from videogen.dit.initial import linear
from videogen.dit.layers import check_heads
from videogen.dit.patterns import Groups, Heads, Pattern
from videogen.dit.rotary import Rotary
from videogen.kernels import Attention

#: how the text gets to heads: through layers of its own, through those of the video, or through own ones but not back
TextStream = Literal["own", "shared", "read"]


class Stream(Fusible):
    """The way of one stream into the heads of an attention, and back.

    Args:
        width: of the stream.
        dim: of all heads.
        num_heads: attention heads.
        kit: norms of queries and keys.
        out: whether there is a way back.
        out_bias: whether that has a bias.
    """

    def __init__(self, width: int, dim: int, num_heads: int, kit: Kit, out: bool = True, out_bias: bool = True) -> None:
        super().__init__()
        head_dim = check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkv = linear(width, 3 * dim, kit.bias)
        self.norm_q, self.norm_k = kit.qk_norm(num_heads, head_dim), kit.qk_norm(num_heads, head_dim)
        self.out = linear(dim, width, out_bias) if out else None

    def heads(self, x: Float[Tensor, "b n width"], rotary: Rotary | None = None) -> Heads:
        """Queries and keys, normalised and turned, and values."""
        split = "b n (three heads c) -> three b n heads c"
        q, k, v = rearrange(self.qkv(x), split, three=3, heads=self.num_heads).unbind(0)
        return Heads(*self.ops.qk_norm_rope(q, k, self.norm_q, self.norm_k, rotary), v)

    def back(self, x: Float[Tensor, "b n heads c"]) -> Float[Tensor, "b n width"]:
        """From the heads to the width of the stream."""
        assert self.out is not None
        # a part of a joint sequence isn't contiguous, and then torch adds the bias in a pass of its own
        out: Tensor = self.out(x.flatten(2).contiguous())
        return out


class JointAttention(Stream):
    """Attention of tokens and text to each other, the tokens under a pattern; only the tokens are rotated.

    MM-DiT's, https://arxiv.org/abs/2403.03206, section 4.

    Args:
        dim: width of the tokens.
        num_heads: attention heads.
        kit: kernel and norms.
        pattern: which tokens attend to which; the text sees all of them and is seen by all.
        text: "own" layers for the text, those of the video ("shared"), or own ones with no way back ("read").
        out_bias: whether the last layer has a bias.

    Raises:
        ValueError: num_heads doesn't divide dim, or shared layers for a text of another width.
    """

    def __init__(
        self, dim: int, num_heads: int, kit: Kit, pattern: Pattern, text: TextStream, out_bias: bool = True
    ) -> None:
        super().__init__(dim, dim, num_heads, kit, out_bias=out_bias)
        self.kernel, self.pattern = kit.attention, pattern
        if text == "shared":
            check_shared(dim, kit)
        width = kit.text_dim or dim
        self.text = None if text == "shared" else Stream(width, dim, num_heads, kit, text == "own", out_bias)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l e"] | None, condition: BlockCondition
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l e"] | None]:
        """Tokens (B, N, D) and text (B, L, E) -> what each is given; None for a text that is only read."""
        video = self.heads(tokens, condition.rotary)
        stream = self.text or self
        groups = self.pattern.group(video, condition.grid, condition.valid)
        words = None if text is None else stream.heads(text)
        seen, read = attend_beside(self.kernel, groups, words, condition.text_mask, len(tokens))
        whole = self.pattern.ungroup(seen, condition.grid, groups.order)
        return self.back(whole), None if read is None or stream.out is None else stream.back(read)


def attend_beside(
    kernel: Attention, groups: Groups, beside: Heads | None, words: Bool[Tensor, "b l"] | None, batch: int
) -> tuple[Shaped[Tensor, "bg m heads c"], Shaped[Tensor, "b l heads c"] | None]:
    """Attention within groups of tokens and what stands beside all of them, as a text: it takes part in every group.

    What it gets is the mean of what it gets in each, as in Open-Sora-Plan 1.5.

    Args:
        kernel: the attention.
        groups: (B * groups, M, heads, head_dim).
        beside: (B, L, heads, head_dim).
        words: False for keys beside that nobody attends to.
        batch: B.
    """
    q, k, v, mask, _ = groups
    if beside is None:
        return kernel(*(x.transpose(1, 2) for x in (q, k, v)), mask=mask).transpose(1, 2), None
    count, inside = len(q) // batch, q.shape[1]
    if count > 1:
        beside = Heads(*(x.repeat_interleave(count, 0) for x in beside))
        words = None if words is None else words.repeat_interleave(count, 0)
    joined = [torch.cat(pair, 1) for pair in zip((q, k, v), beside, strict=True)]
    wide = _widened(mask, words, joined[0], inside)
    out = kernel(*(x.transpose(1, 2) for x in joined), mask=wide).transpose(1, 2)
    return out[:, :inside], _mean_of_groups(out[:, inside:], count, mask)


def _widened(mask: Tensor | None, words: Tensor | None, joined: Tensor, inside: int) -> Tensor | None:
    """A mask of keys (B * groups, M) or of pairs (B, 1, N, N), with the columns and rows of what stands beside."""
    if mask is None and words is None:
        return None
    groups, length = joined.shape[:2]
    if words is None:
        words = joined.new_ones(groups, length - inside, dtype=torch.bool)
    if mask is None:
        mask = joined.new_ones(groups, inside, dtype=torch.bool)
    if mask.ndim == 2:
        return torch.cat([mask, words], 1)
    # what stands beside sees every key that anybody sees
    rows = torch.cat([mask, mask.any(2, keepdim=True).expand(-1, -1, length - inside, -1)], 2)
    return torch.cat([rows, words[:, None, None].expand(-1, -1, length, -1)], 3)


def _mean_of_groups(x: Tensor, groups: int, mask: Tensor | None) -> Tensor:
    """(B * groups, L, …) -> (B, L, …), over the groups that hold a token: in a padded batch some hold none."""
    if groups == 1:
        return x
    x = x.unflatten(0, (-1, groups))
    if mask is None:
        return x.mean(1)
    held = mask.any(-1).unflatten(0, (-1, groups)).to(x.dtype)
    return torch.einsum("bg...,bg->b...", x, held / held.sum(1, keepdim=True).clamp(min=1))


def of_both(layer: nn.Module, condition: BlockCondition) -> tuple[list[Branch], list[Branch]]:
    """The branches of one layer for the tokens' time and for the text's."""
    said, tokens = condition.of_text(), layer(condition)
    return tokens, tokens if said is condition else layer(said)


def check_shared(dim: int, kit: Kit) -> None:
    """ValueError for layers that are shared by a text of another width than the tokens."""
    if kit.text_dim not in (None, dim):
        raise ValueError(f"text of width {kit.text_dim} can't go through layers for tokens of {dim}: use block double")

"""Attention from the mean of the text's tokens to all of them, for encoders without a pooled vector: Mochi's."""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.denoiser import Condition
from videogen.dit.initial import linear
from videogen.dit.pools import POOLS
from videogen.kernels import Attention


@POOLS.register("attention")
class AttentionPool(nn.Module):
    """One query, the mean of the words, attends to itself and to all words, as in CLIP's image tower.

    Attention pooling, https://arxiv.org/abs/2103.00020, section 2.4, with padding left out.

    Args:
        text_dim: width of the text tokens.
        pooled_dim: of no use here.
        dim: width of the embedded timestep.
        num_heads: attention heads.

    Raises:
        ValueError: num_heads doesn't divide text_dim.
    """

    conditions: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, text_dim: int, pooled_dim: int, dim: int, *, num_heads: int = 8) -> None:
        super().__init__()
        if num_heads < 1 or text_dim % num_heads:
            raise ValueError(
                f"text of width {text_dim} can't be split over {num_heads} heads: num_heads must divide it"
            )
        self.num_heads = num_heads
        self.q, self.kv = linear(text_dim, text_dim), linear(text_dim, 2 * text_dim)
        self.out = linear(text_dim, dim)

    def forward(self, condition: Condition, kernel: Attention) -> Float[Tensor, "b d"] | None:
        """(B, D), or None without text."""
        text, words = condition.text, condition.text_mask
        if text is None:
            return None
        if words is None:
            words = text.new_ones(text.shape[:2], dtype=torch.bool)
        share = words / words.sum(1, keepdim=True).clamp(min=1)
        mean = torch.einsum("bld,bl->bd", text, share.to(text.dtype))[:, None]
        split = "b l (parts heads c) -> parts b heads l c"
        (q,) = rearrange(self.q(mean), split, parts=1, heads=self.num_heads)
        k, v = rearrange(self.kv(torch.cat([mean, text], 1)), split, parts=2, heads=self.num_heads)
        mask = torch.cat([words.new_ones(len(words), 1), words], 1)
        out: Tensor = self.out(rearrange(kernel(q, k, v, mask=mask), "b heads 1 c -> b (heads c)"))
        return out

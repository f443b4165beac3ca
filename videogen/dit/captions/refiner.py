"""A small transformer that refines the text at each timestep: HunyuanVideo's."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.captions import CAPTIONS
from videogen.dit.embeddings import TimestepEmbedding
from videogen.dit.initial import linear, zero_linear
from videogen.dit.layers import check_heads
from videogen.kernels import Attention


@CAPTIONS.register("refiner")
class TokenRefiner(nn.Module):
    """Self-attention among the words, gated by the timestep and the mean of the words.

    A causal language model gives tokens that know nothing of what follows; HunyuanVideo makes up for that,
    https://arxiv.org/abs/2412.03603, section 4.2.

    Args:
        text_dim: width of the text encoder.
        dim: width of the tokens.
        num_heads: attention heads.
        depth: layers.
        ratio: hidden width of the MLPs as a multiple of dim.
        time_features: sin-cos features of a timestep.

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

    timed = True

    def __init__(
        self,
        text_dim: int,
        dim: int,
        *,
        num_heads: int = 4,
        depth: int = 2,
        ratio: float = 4.0,
        time_features: int = 256,
    ) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.time = TimestepEmbedding(dim, 1.0, time_features)
        self.pooled = nn.Sequential(linear(text_dim, dim), nn.SiLU(), linear(dim, dim))
        self.proj = linear(text_dim, dim)
        self.blocks = nn.ModuleList([RefinerBlock(dim, num_heads, int(dim * ratio)) for _ in range(depth)])

    def forward(
        self,
        text: Float[Tensor, "b l e"],
        words: Bool[Tensor, "b l"] | None,
        timestep: Float[Tensor, " b"],
        kernel: Attention,
    ) -> Float[Tensor, "b l d"]:
        """(B, L, D_text) -> (B, L, D); what stands behind the words means nothing."""
        if words is None:
            mean = text.mean(1)
        else:
            share = words / words.sum(1, keepdim=True).clamp(min=1)
            mean = torch.einsum("ble,bl->be", text, share.to(text.dtype))
        time = self.time(timestep[:, None], text.dtype) + self.pooled(mean)[:, None]
        tokens: Tensor = self.proj(text)
        for block in self.blocks:
            tokens = block(tokens, time, words, kernel)
        return tokens


class RefinerBlock(nn.Module):
    """Self-attention and MLP behind LayerNorms with weights; only the gates are modulated."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.out = linear(dim, 3 * dim), linear(dim, dim)
        self.mlp = nn.Sequential(linear(dim, hidden), nn.SiLU(), linear(hidden, dim))
        self.gates = zero_linear(dim, 2 * dim)

    def forward(
        self,
        tokens: Float[Tensor, "b l d"],
        time: Float[Tensor, "b 1 d"],
        words: Bool[Tensor, "b l"] | None,
        kernel: Attention,
    ) -> Float[Tensor, "b l d"]:
        """(B, L, D) -> (B, L, D)."""
        gate, gate_mlp = self.gates(nn.functional.silu(time)).chunk(2, -1)
        split = "b l (three heads c) -> three b heads l c"
        q, k, v = rearrange(self.qkv(self.norm_attention(tokens)), split, three=3, heads=self.num_heads)
        attended = rearrange(kernel(q, k, v, mask=words), "b heads l c -> b l (heads c)")
        tokens = torch.addcmul(tokens, gate, self.out(attended))
        return torch.addcmul(tokens, gate_mlp, self.mlp(self.norm_mlp(tokens)))

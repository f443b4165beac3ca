"""The resampler: learned queries that gather what a denoiser should know from the tokens of an image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class Resampler(nn.Module):
    """Flamingo's Perceiver resampler (https://arxiv.org/abs/2204.14198, section 3.1), as IP-Adapter has it.

    Args:
        image_dim: width of the image's tokens.
        dim: width of what comes out.
        inner_dim: width of the queries.
        depth: layers.
        num_heads: attention heads.
        head_dim: width of a head.
        num_queries: tokens that come out.
    """

    def __init__(
        self, image_dim: int, dim: int, inner_dim: int, depth: int, num_heads: int, head_dim: int, num_queries: int
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, num_queries, inner_dim) * inner_dim**-0.5)
        self.proj_in = nn.Linear(image_dim, inner_dim)
        self.layers = nn.ModuleList([ResamplerLayer(inner_dim, num_heads, head_dim) for _ in range(depth)])
        self.proj_out = nn.Linear(inner_dim, dim)
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, image: Float[Tensor, "b l image_dim"]) -> Float[Tensor, "b q d"]:
        """(B, L, image_dim) -> (B, num_queries, dim)"""
        image, queries = self.proj_in(image), self.queries.expand(len(image), -1, -1)
        for layer in self.layers:
            queries = layer(image, queries)
        out: Tensor = self.norm_out(self.proj_out(queries))
        return out


class ResamplerLayer(nn.Module):
    """The queries attend to the image and to themselves at once, then an MLP; both residual."""

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, inner = num_heads, num_heads * head_dim
        self.norm_image, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv = nn.Linear(dim, inner, bias=False), nn.Linear(dim, 2 * inner, bias=False)
        self.out = nn.Linear(inner, dim, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False)
        )

    def forward(self, image: Float[Tensor, "b l d"], queries: Float[Tensor, "b q d"]) -> Float[Tensor, "b q d"]:
        """Image (B, L, D) and queries (B, Q, D) -> queries (B, Q, D)."""
        normed = self.norm(queries)
        keys, values = self.kv(torch.cat([self.norm_image(image), normed], dim=1)).chunk(2, dim=-1)
        q, k, v = (
            rearrange(x, "b n (heads c) -> b heads n c", heads=self.num_heads) for x in (self.q(normed), keys, values)
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        queries = queries + self.out(rearrange(attended, "b heads n c -> b n (heads c)"))
        out: Tensor = queries + self.mlp(queries)
        return out

"""CLIP's vision tower, without its pooled vector: a vision transformer that starts with a norm."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Activation = Literal["gelu", "quick_gelu"]
EPS = 1e-5


class VisionTower(nn.Module):
    """A token for the whole image and one a patch, through pre-norm layers, https://arxiv.org/abs/2103.00020.

    Args:
        image_size: side of the square that it sees, in pixels.
        patch_size: side of a patch, in pixels.
        width: of the tokens.
        depth: layers.
        num_heads: attention heads.
        hidden: width inside the MLPs.
        activation: gelu (OpenCLIP's) or quick_gelu, x * sigmoid(1.702 x) (OpenAI's).

    Raises:
        ValueError: sizes that don't divide.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        hidden: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        if image_size % patch_size or width % num_heads:
            raise ValueError(
                f"patch_size={patch_size} must divide image_size={image_size}, and num_heads={num_heads} width={width}"
            )
        self.patches = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.whole = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positions = nn.Parameter(torch.randn((image_size // patch_size) ** 2 + 1, width) * width**-0.5)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.layers = nn.ModuleList([Layer(width, num_heads, hidden, activation) for _ in range(depth)])

    def forward(self, pixels: Float[Tensor, "b 3 s s"], num_layers: int) -> Float[Tensor, "b n d"]:
        """(B, 3, S, S) -> tokens (B, 1 + (S / patch_size)^2, width) behind the first `num_layers` layers."""
        patches = rearrange(self.patches(pixels), "b d h w -> b (h w) d")
        both = torch.cat([self.whole.expand(len(pixels), 1, -1), patches], dim=1)
        tokens: Tensor = self.norm(both + self.positions)
        for layer in self.layers[:num_layers]:
            tokens = layer(tokens)
        return tokens


class Layer(nn.Module):
    """Pre-norm self-attention and MLP, both residual."""

    def __init__(self, width: int, num_heads: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.num_heads, self.activation = num_heads, activation
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)"""
        heads = "b n (three heads c) -> three b heads n c"
        q, k, v = rearrange(self.qkv(self.norm1(tokens)), heads, three=3, heads=self.num_heads).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.out(rearrange(attended, "b heads n c -> b n (heads c)"))
        inner = self.expand(self.norm2(tokens))
        inner = F.gelu(inner) if self.activation == "gelu" else inner * torch.sigmoid(1.702 * inner)
        out: Tensor = tokens + self.contract(inner)
        return out

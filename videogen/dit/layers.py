"""What transformer blocks are made of: modulation, attention with its projections, the MLP."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition
from videogen.dit.rope import Rotary, rotate
from videogen.kernels import Attention

EPS = 1e-6


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with DiT's initialisation: Xavier-uniform weights, zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts as zero, so that the branch it ends starts as nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def modulate(
    tokens: Float[Tensor, "b n d"], shift: Float[Tensor, "b n_or_1 d"], scale: Float[Tensor, "b n_or_1 d"]
) -> Float[Tensor, "b n d"]:
    """LayerNorm(tokens) * (1 + scale) + shift."""
    return torch.addcmul(shift, F.layer_norm(tokens, tokens.shape[-1:], eps=EPS), 1 + scale)


class Branch(NamedTuple):
    """The modulation of one residual branch; each (B, 1, D), or (B, N, D) with a timestep a frame."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def enter(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What the branch sees: normalised, scaled, shifted tokens."""
        return modulate(tokens, self.shift, self.scale)

    def leave(self, tokens: Float[Tensor, "b n d"], out: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """tokens + gate * out."""
        return torch.addcmul(tokens, self.gate, out)


class Modulation(nn.Module):
    """Shift, scale and gate of each residual branch from the timestep: adaLN-Zero, https://arxiv.org/abs/2212.09748.

    Args:
        branches: residual branches of the block that are modulated.
    """

    def __init__(self, dim: int, branches: int) -> None:
        super().__init__()
        self.branches = branches
        self.linear = zero_linear(dim, 3 * branches * dim)

    def forward(self, condition: BlockCondition) -> list[Branch]:
        """One `Branch` for each residual branch, in order."""
        signals = per_token(self.linear(F.silu(condition.time)), condition.grid)
        parts = signals.chunk(3 * self.branches, dim=-1)
        return [Branch(*parts[i : i + 3]) for i in range(0, len(parts), 3)]


def per_token(signals: Float[Tensor, "b f d"], grid: tuple[int, int, int]) -> Float[Tensor, "b n_or_1 d"]:
    """Signals of all tokens (B, 1, D), frames (B, T, D) or tokens (B, N, D) -> (B, 1 or N, D), ready to broadcast."""
    frames, rows, columns = grid
    if signals.shape[1] in (1, frames * rows * columns):
        return signals
    return repeat(signals, "b t d -> b (t s) d", s=rows * columns)


class MLP(nn.Sequential):
    """Two linear layers around a tanh-approximated GELU; (B, N, D) -> (B, N, D).

    Args:
        ratio: hidden width as a multiple of dim.
    """

    def __init__(self, dim: int, ratio: float) -> None:
        hidden = int(dim * ratio)
        super().__init__(linear(dim, hidden), nn.GELU(approximate="tanh"), linear(hidden, dim))


class HeadNorm(nn.RMSNorm):
    """RMSNorm of each head's queries or keys, https://arxiv.org/abs/1910.07467."""

    def forward(self, x: Float[Tensor, "b heads n head_dim"]) -> Float[Tensor, "b heads n head_dim"]:
        """(B, heads, N, head_dim) -> the same, in the dtype of x."""
        assert self.weight is not None
        # autocast leaves this weight in float32, for which torch has no fused kernel beside a bfloat16 x
        return nn.functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Multi-head attention among tokens, with RoPE and RMS-normalised queries and keys.

    Args:
        attention: the kernel, see `videogen.kernels.Attention`.
        qk_norm: RMSNorm on the queries and keys of each head, which keeps attention logits bounded
            (https://arxiv.org/abs/2302.05442).

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

    def __init__(self, dim: int, num_heads: int, attention: Attention, qk_norm: bool) -> None:
        super().__init__()
        head_dim = check_heads(dim, num_heads)
        self.num_heads, self.kernel = num_heads, attention
        self.qkv = linear(dim, 3 * dim)
        self.norm_q = HeadNorm(head_dim, eps=EPS) if qk_norm else nn.Identity()
        self.norm_k = HeadNorm(head_dim, eps=EPS) if qk_norm else nn.Identity()
        self.out = linear(dim, dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], rotary: Rotary | None, valid: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D); no token attends to one that isn't valid."""
        heads = "b n (three heads c) -> three b heads n c"
        q, k, v = rearrange(self.qkv(tokens), heads, three=3, heads=self.num_heads).unbind(0)
        q, k = self.norm_q(q), self.norm_k(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        attended = self.kernel(q, k, v, mask=valid)
        out: Tensor = self.out(rearrange(attended, "b heads n c -> b n (heads c)"))
        return out


class CrossAttention(nn.Module):
    """Pre-normalised multi-head attention from tokens to text; its last layer starts as zero, as in PixArt.

    https://arxiv.org/abs/2310.00426, section 2.2.

    Args:
        attention: the kernel, see `videogen.kernels.Attention`.
        qk_norm: RMSNorm on the queries and keys of each head.

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

    def __init__(self, dim: int, num_heads: int, attention: Attention, qk_norm: bool) -> None:
        super().__init__()
        head_dim = check_heads(dim, num_heads)
        self.num_heads, self.kernel = num_heads, attention
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.q, self.kv = linear(dim, dim), linear(dim, 2 * dim)
        self.norm_q = HeadNorm(head_dim, eps=EPS) if qk_norm else nn.Identity()
        self.norm_k = HeadNorm(head_dim, eps=EPS) if qk_norm else nn.Identity()
        self.out = zero_linear(dim, dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"] | None
    ) -> Float[Tensor, "b n d"]:
        """tokens (B, N, D), text (B, L, D) -> (B, N, D); zero for a row whose text is masked out entirely."""
        q = rearrange(self.q(self.norm(tokens)), "b n (heads c) -> b heads n c", heads=self.num_heads)
        heads = "b l (two heads c) -> two b heads l c"
        k, v = rearrange(self.kv(text), heads, two=2, heads=self.num_heads).unbind(0)
        attended = self.kernel(self.norm_q(q), self.norm_k(k), v, mask=mask)
        out: Tensor = self.out(rearrange(attended, "b heads n c -> b n (heads c)"))
        return out


def check_heads(dim: int, num_heads: int) -> int:
    """The head_dim of `num_heads` heads in `dim` channels; ValueError if they don't divide."""
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"dim {dim} can't be split over {num_heads} heads: num_heads must divide it")
    return dim // num_heads

"""The U-Net's attention: within a frame and to the text and an image, or along time at each position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.kernels import Attention
from videogen.unet.layers import UNetCondition

#: of the normalisation before attention
EPS = 1e-6


class SpatialTransformer(nn.Module):
    """Attention among the positions of each frame, attention to text and image, MLP; the whole plus its input.

    https://arxiv.org/abs/2112.10752, appendix E.2.1.

    Args:
        head_dim: width of a head.
        text_dim: width of text and image tokens.
        groups: of the normalisation over each frame.
        attention: the kernel, see `videogen.kernels.Attention`.
        image_attention, image_gate: see `CrossAttention`.

    Raises:
        ValueError: head_dim doesn't divide channels.
    """

    def __init__(
        self,
        channels: int,
        head_dim: int,
        text_dim: int,
        groups: int,
        attention: Attention,
        *,
        image_attention: bool,
        image_gate: bool,
    ) -> None:
        super().__init__()
        heads = heads_of(channels, head_dim)
        self.norm, self.proj_in = nn.GroupNorm(groups, channels, eps=EPS), nn.Linear(channels, channels)
        self.self_attention = SelfAttention(channels, heads, attention)
        self.cross_attention = CrossAttention(
            channels, heads, text_dim, attention, image_attention=image_attention, image_gate=image_gate
        )
        self.mlp = GatedMLP(channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "bt c h w"], condition: UNetCondition) -> Float[Tensor, "bt c h w"]:
        """(B * T, C, H, W) -> (B * T, C, H, W)."""
        tokens = self.proj_in(rearrange(self.norm(x), "bt c h w -> bt (h w) c"))
        tokens = tokens + self.self_attention(tokens)
        tokens = tokens + self.cross_attention(tokens, condition)
        tokens = tokens + self.mlp(tokens)
        out: Tensor = x + rearrange(self.out(tokens), "bt (h w) c -> bt c h w", h=x.shape[2])
        return out


class TemporalTransformer(nn.Module):
    """Attention along time at each position, twice, and an MLP; the whole plus its input.

    https://arxiv.org/abs/2308.06571. The second attention stands where the spatial transformer attends to the text.

    Args:
        heads: attention heads; their total width may differ from channels.
        head_dim: width of a head.
        groups: of the normalisation over the whole clip.
        attention: the kernel; not used with positions.
        positions: see `RelativeAttention`; 0 for attention that doesn't know the order of frames.
    """

    def __init__(
        self, channels: int, heads: int, head_dim: int, groups: int, attention: Attention, positions: int
    ) -> None:
        super().__init__()
        dim = heads * head_dim
        self.norm, self.proj_in = nn.GroupNorm(groups, channels, eps=EPS), nn.Linear(channels, dim)

        def attend() -> SelfAttention:
            return RelativeAttention(dim, heads, positions) if positions else SelfAttention(dim, heads, attention)

        self.attention1, self.attention2, self.mlp = attend(), attend(), GatedMLP(dim)
        self.out = nn.Linear(dim, channels)

    def forward(self, x: Float[Tensor, "bt c h w"], condition: UNetCondition) -> Float[Tensor, "bt c h w"]:
        """(B * T, C, H, W) -> (B * T, C, H, W)."""
        (height, width), frames = x.shape[2:], condition.frames
        clip = self.norm(rearrange(x, "(b t) c h w -> b c t h w", t=frames))
        tokens = self.proj_in(rearrange(clip, "b c t h w -> (b h w) t c"))
        tokens = tokens + self.attention1(tokens)
        tokens = tokens + self.attention2(tokens)
        tokens = tokens + self.mlp(tokens)
        out: Tensor = x + rearrange(self.out(tokens), "(b h w) t c -> (b t) c h w", h=height, w=width)
        return out


class SelfAttention(nn.Module):
    """Pre-normalised multi-head attention among tokens.

    Args:
        attention: the kernel; None for a subclass that computes its own.
    """

    def __init__(self, dim: int, heads: int, attention: Attention | None) -> None:
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.norm = nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """(B, N, D) -> (B, N, D)."""
        pattern = "b n (three heads c) -> three b heads n c"
        q, k, v = rearrange(self.qkv(self.norm(tokens)), pattern, three=3, heads=self.heads).unbind(0)
        out: Tensor = self.out(rearrange(self.attend(q, k, v), "b heads n c -> b n (heads c)"))
        return out

    def attend(
        self,
        q: Float[Tensor, "b heads n head_dim"],
        k: Float[Tensor, "b heads n head_dim"],
        v: Float[Tensor, "b heads n head_dim"],
    ) -> Float[Tensor, "b heads n head_dim"]:
        """Queries, keys and values of each head -> what each query attends to."""
        assert self.kernel is not None
        return self.kernel(q, k, v)


class RelativeAttention(SelfAttention):
    """Attention that knows how far apart two tokens are: a vector a distance, added to keys and to values.

    https://arxiv.org/abs/1803.02155, eq. 3 and 4. It stores the (N, N) matrix of every head; no kernel does this.

    Args:
        positions: the largest distance that has a vector of its own; farther tokens share the last one.
    """

    def __init__(self, dim: int, heads: int, positions: int) -> None:
        super().__init__(dim, heads, None)
        self.positions = positions

        def table() -> nn.Parameter:
            return nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * positions + 1, dim // heads)))

        self.key_positions, self.value_positions = table(), table()

    def attend(
        self,
        q: Float[Tensor, "b heads n head_dim"],
        k: Float[Tensor, "b heads n head_dim"],
        v: Float[Tensor, "b heads n head_dim"],
    ) -> Float[Tensor, "b heads n head_dim"]:
        """Queries, keys and values of each head -> what each query attends to; the softmax in float32."""
        place = torch.arange(q.shape[2], device=q.device)
        distance = (place - place[:, None]).clamp(-self.positions, self.positions) + self.positions
        keys, values = self.key_positions[distance], self.value_positions[distance]
        scores = q @ k.mT + torch.einsum("b h n c, n m c -> b h n m", q, keys.to(q.dtype))
        weights = (scores * q.shape[-1] ** -0.5).softmax(-1, dtype=torch.float32).to(v.dtype)
        out: Tensor = weights @ v + torch.einsum("b h n m, n m c -> b h n c", weights, values.to(v.dtype))
        return out


class CrossAttention(nn.Module):
    """Pre-normalised multi-head attention from the tokens of each frame to text, and to an image beside it.

    An image has keys and values of its own and is attended to apart, https://arxiv.org/abs/2308.06721, eq. 5.

    Args:
        text_dim: width of text and image tokens.
        attention: the kernel.
        image_attention: attend to image tokens.
        image_gate: let a learned number weigh what comes from the image.
    """

    def __init__(
        self, dim: int, heads: int, text_dim: int, attention: Attention, *, image_attention: bool, image_gate: bool
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, attention
        self.norm = nn.LayerNorm(dim)
        self.q, self.kv = nn.Linear(dim, dim, bias=False), nn.Linear(text_dim, 2 * dim, bias=False)
        self.image_kv = nn.Linear(text_dim, 2 * dim, bias=False) if image_attention else None
        self.image_gate = nn.Parameter(torch.zeros(())) if image_gate else None
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Float[Tensor, "bt n d"], condition: UNetCondition) -> Float[Tensor, "bt n d"]:
        """(B * T, N, D) -> (B * T, N, D); nothing comes from a text that is masked out entirely."""
        q = self.q(self.norm(tokens))
        out = self._attend(q, self.kv(condition.text), condition.text_mask)
        if self.image_kv is not None and condition.image is not None:
            seen = self._attend(q, self.image_kv(condition.image), None)
            out = out + (seen if self.image_gate is None else seen * (1 + self.image_gate.tanh()))
        projected: Tensor = self.out(out)
        return projected

    def _attend(self, q: Tensor, kv: Tensor, mask: Tensor | None) -> Tensor:
        """What queries (B * T, N, D) find in keys and values (B, L, 2D), or in those of each frame (B * T, L, 2D)."""
        # frames that look at the same tokens are one long row of queries: neither tokens nor keys are repeated
        each = q.shape[0] // kv.shape[0]
        rows = rearrange(q, "(b t) n (heads c) -> b heads (t n) c", t=each, heads=self.heads)
        k, v = rearrange(kv, "b l (two heads c) -> two b heads l c", two=2, heads=self.heads).unbind(0)
        return rearrange(self.kernel(rows, k, v, mask=mask), "b heads (t n) c -> (b t) n (heads c)", t=each)


class GatedMLP(nn.Module):
    """Pre-normalised GEGLU of four times the width, https://arxiv.org/abs/2002.05202, eq. 6; (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand, self.out = nn.Linear(dim, 8 * dim), nn.Linear(4 * dim, dim)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        values, gate = self.expand(self.norm(tokens)).chunk(2, dim=-1)
        out: Tensor = self.out(values * F.gelu(gate))
        return out


def heads_of(channels: int, head_dim: int) -> int:
    """The number of heads of that width; ValueError if they don't fill the channels."""
    if head_dim < 1 or channels % head_dim:
        raise ValueError(f"{channels} channels can't be split into heads of {head_dim}: head_dim must divide them")
    return channels // head_dim

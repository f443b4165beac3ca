"""The attention from tokens to text that all cross-attentions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition, Kit
from videogen.dit.initial import linear, zero_linear
from videogen.dit.memo import remembered
from videogen.dit.norms.rms import RMSNorm

EPS = 1e-6


class TextAttention(nn.Module):
    """Queries of the tokens, keys and values of the text, and the layer behind them; for knobs see its subclasses."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        kit: Kit,
        *,
        norm: Literal["layer", "rms", "none"] = "layer",
        zero: bool = True,
        qk_norm: bool = True,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} can't be split over {num_heads} heads: num_heads must divide it")
        self.num_heads, self.kernel = num_heads, kit.attention
        norms: dict[str, Callable[[], nn.Module]] = {
            "layer": lambda: nn.LayerNorm(dim, eps=EPS),
            "rms": lambda: RMSNorm(dim, affine=True, eps=EPS),
            "none": nn.Identity,
        }
        self.norm = norms[norm]()
        self.q, self.kv = linear(dim, dim, kit.bias), linear(dim, 2 * dim, kit.bias)
        head_norm = kit.qk_norm if qk_norm else (lambda heads, head_dim: nn.Identity())
        self.norm_q, self.norm_k = head_norm(num_heads, dim // num_heads), head_norm(num_heads, dim // num_heads)
        self.out = zero_linear(dim, dim) if zero else linear(dim, dim)

    def query(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b heads n c"]:
        """(B, N, D) -> (B, heads, N, head_dim)."""
        q: Tensor = self.norm_q(self.q(self.norm(tokens)).unflatten(-1, (self.num_heads, -1)))
        return q.transpose(1, 2)

    def keys_values(
        self, layer: nn.Linear, norm: nn.Module, context: Float[Tensor, "b l d"], condition: BlockCondition
    ) -> tuple[Float[Tensor, "b heads l c"], Float[Tensor, "b heads l c"]]:
        """What `layer` makes of text or image, the keys normalised; kept from step to step."""

        found: tuple[Tensor, Tensor] = remembered(
            condition.memo, layer, layer.weight, lambda: self.split(layer, norm, context)
        )
        return found

    def split(
        self, layer: nn.Linear, norm: nn.Module, context: Float[Tensor, "b l d"]
    ) -> tuple[Float[Tensor, "b heads l c"], Float[Tensor, "b heads l c"]]:
        """Keys, normalised, and values of a text or an image."""
        split = "b l (two heads c) -> two b l heads c"
        k, v = rearrange(layer(context), split, two=2, heads=self.num_heads).unbind(0)
        return norm(k).transpose(1, 2), v.transpose(1, 2)

    def attend(
        self, q: Float[Tensor, "b heads n c"], text: Float[Tensor, "b l d"], condition: BlockCondition
    ) -> Float[Tensor, "b heads n c"]:
        """What the queries find in the text; zero where all of it is masked out."""
        k, v = self.keys_values(self.kv, self.norm_k, text, condition)
        return self.kernel(q, k, v, mask=condition.text_mask)

    def leave(self, attended: Float[Tensor, "b heads n c"]) -> Float[Tensor, "b n d"]:
        """The layer behind the heads, (B, heads, N, head_dim) -> (B, N, D)."""
        out: Tensor = self.out(rearrange(attended, "b heads n c -> b n (heads c)"))
        return out

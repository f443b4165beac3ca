"""Cross-attention from the tokens to the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videogen.dit.blocks import BlockCondition, Kit
from videogen.dit.crosses import CROSSES
from videogen.dit.initial import linear, zero_linear
from videogen.dit.memo import remembered

EPS = 1e-6


@CROSSES.register("attention")
class CrossAttention(nn.Module):
    """Multi-head attention from tokens to text, as in PixArt, https://arxiv.org/abs/2310.00426, section 2.2.

    Args:
        dim: width of the tokens and the text.
        num_heads: attention heads.
        kit: kernel and norms.
        norm: of the tokens before it: LayerNorm or RMSNorm with weights, or none, as in PixArt.
        zero: start the last layer as zero.
        qk_norm: whether the kit's norm is on queries and keys here too.

    Raises:
        ValueError: num_heads doesn't divide dim.
    """

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
            "rms": lambda: nn.RMSNorm(dim, eps=EPS),
            "none": nn.Identity,
        }
        self.norm = norms[norm]()
        self.q, self.kv = linear(dim, dim, kit.bias), linear(dim, 2 * dim, kit.bias)
        head_norm = kit.qk_norm if qk_norm else (lambda heads, head_dim: nn.Identity())
        self.norm_q, self.norm_k = head_norm(num_heads, dim // num_heads), head_norm(num_heads, dim // num_heads)
        self.out = zero_linear(dim, dim) if zero else linear(dim, dim)

    def forward(
        self, tokens: Float[Tensor, "b n d"], text: Float[Tensor, "b l d"], condition: BlockCondition
    ) -> Float[Tensor, "b n d"]:
        """tokens (B, N, D), text (B, L, D) -> (B, N, D); zero before the last layer where all text is masked out."""
        q = self.norm_q(self.q(self.norm(tokens)).unflatten(-1, (self.num_heads, -1))).transpose(1, 2)
        k, v = remembered(condition.memo, self, self.kv.weight, lambda: self._keys_values(text))
        attended = self.kernel(q, k, v, mask=condition.text_mask)
        out: Tensor = self.out(rearrange(attended, "b heads n c -> b n (heads c)"))
        return out

    def _keys_values(self, text: Tensor) -> tuple[Tensor, Tensor]:
        k, v = rearrange(self.kv(text), "b l (two heads c) -> two b l heads c", two=2, heads=self.num_heads).unbind(0)
        return self.norm_k(k).transpose(1, 2), v.transpose(1, 2)

"""The diffusion transformer: patches, positions, a stack of exchangeable blocks, patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from videogen.denoiser import DENOISERS, Condition
from videogen.dit._checks import check_inputs
from videogen.dit.blocks import Block, BlockCondition
from videogen.dit.embeddings import (
    Size,
    TimestepEmbedding,
    absolute_positions,
    patchify,
    token_grid,
    unpatchify,
)
from videogen.dit.layers import check_heads, linear, modulate, per_token, zero_linear
from videogen.dit.rope import rotary_table, split_head_dim


@DENOISERS.register("dit")
class DiT(nn.Module):
    """Diffusion transformer on video latents with text by cross-attention, https://arxiv.org/abs/2212.09748.

    Text enters as in PixArt (https://arxiv.org/abs/2310.00426); blocks and attention kernel are given from outside.

    Args:
        latent_channels: channels of the latents, in and out.
        text_dim: width of the text tokens and of the pooled text.
        block: builds one layer, `block(dim, num_heads)`.
        dim: width of the tokens.
        depth: number of blocks.
        num_heads: attention heads of a block.
        patch_size: latents a token along time, height and width.
        position: rotary angles in the attention ("rope"), a fixed sin-cos code added to the tokens as well
            ("rope+absolute"), or neither.
        rope_theta: base of the rotary frequencies.
        timestep_scale: what timesteps are multiplied with: 1000 for times in [0, 1], 1 for steps of 0 … 999.
        text_pooled: add the pooled text, where it is given, to the timestep embedding.

    Raises:
        ValueError: sizes that don't divide, or an unknown position.
    """

    def __init__(
        self,
        latent_channels: int,
        text_dim: int,
        block: Callable[[int, int], Block],
        *,
        dim: int = 256,
        depth: int = 6,
        num_heads: int = 4,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        position: Literal["rope+absolute", "rope", "none"] = "rope+absolute",
        rope_theta: float = 10000.0,
        timestep_scale: float = 1000.0,
        text_pooled: bool = True,
    ) -> None:
        super().__init__()
        if position not in ("rope+absolute", "rope", "none"):
            raise ValueError(f"position {position!r} is unknown: choose rope+absolute, rope or none")
        self.latent_channels, self.text_dim, self.dim = latent_channels, text_dim, dim
        self.patch_size: Size = (patch_size[0], patch_size[1], patch_size[2])
        self.position, self.rope_theta = position, rope_theta
        self.head_dim = check_heads(dim, num_heads)
        if position != "none":
            split_head_dim(self.head_dim)
        self.conditions = frozenset({"text", "text_mask", "valid"} | ({"pooled"} if text_pooled else set()))

        patch = latent_channels * patch_size[0] * patch_size[1] * patch_size[2]
        self.embed = linear(patch, dim)
        self.time = TimestepEmbedding(dim, timestep_scale)
        self.text = _text_mlp(text_dim, dim)
        self.pooled = _text_mlp(text_dim, dim) if text_pooled else None
        # a Block is a callable; whatever a config can name is an nn.Module too
        self.blocks = nn.ModuleList([block(dim, num_heads) for _ in range(depth)])  # type: ignore[misc]
        self.modulation = zero_linear(dim, 2 * dim)
        self.out = zero_linear(dim, patch)

    def forward(
        self, latents: Float[Tensor, "b c t h w"], timestep: Shaped[Tensor, "b ..."], condition: Condition
    ) -> Float[Tensor, "b c t h w"]:
        """Predict (B, C, T, H, W) -> (B, C, T, H, W); what stands at invalid positions of a padded batch means nothing.

        Args:
            timestep: (B,), or one a frame (B, T).
            condition: text (B, L, text_dim) with text_mask (B, L), pooled (B, text_dim), valid (B, T, H, W).

        Raises:
            ValueError: a field of the condition that this model would ignore, or a shape that doesn't fit.
        """
        condition.require_subset("dit", self.conditions)
        check_inputs(latents, timestep, condition, self.latent_channels, self.text_dim, self.patch_size[0])
        grid = token_grid((latents.shape[2], latents.shape[3], latents.shape[4]), self.patch_size)
        valid = None
        if condition.valid is not None:
            # padding may hold anything, even NaN, which a masked attention would still spread
            latents = latents.masked_fill(~condition.valid[:, None], 0.0)
            valid = patchify(condition.valid[:, None], self.patch_size).any(-1)

        # the residual stream keeps the precision of the weights: autocast would round it at every block
        tokens = self.embed(patchify(latents, self.patch_size)).to(self.embed.weight.dtype)
        if self.position == "rope+absolute":
            tokens = tokens + absolute_positions(grid, self.dim, tokens.device, valid).to(tokens.dtype)
        rotary = None
        if self.position != "none":
            rotary = rotary_table(grid, self.head_dim, self.rope_theta, tokens.device)
        inner = BlockCondition(
            grid=grid,
            time=self._time(timestep, condition, tokens.dtype),
            rotary=rotary,
            text=None if condition.text is None else self.text(condition.text),
            text_mask=condition.text_mask,
            valid=valid,
        )
        for block in self.blocks:
            tokens = block(tokens, inner)
        shift, scale = per_token(self.modulation(nn.functional.silu(inner.time)), grid).chunk(2, dim=-1)
        return unpatchify(self.out(modulate(tokens, shift, scale)), grid, self.patch_size)

    def _time(self, timestep: Tensor, condition: Condition, dtype: torch.dtype) -> Tensor:
        """What modulates the blocks: timestep and pooled text, (B, 1, D) or (B, T, D)."""
        time: Tensor = self.time(timestep if timestep.ndim == 2 else timestep[:, None], dtype)
        if self.pooled is None or condition.pooled is None:
            return time
        pooled: Tensor = self.pooled(condition.pooled)
        return time + pooled[:, None]


def _text_mlp(text_dim: int, dim: int) -> nn.Sequential:
    # encoders differ widely in scale (T5 has channels of several hundred): normalise before anything else
    return nn.Sequential(nn.LayerNorm(text_dim), linear(text_dim, dim), nn.GELU(approximate="tanh"), linear(dim, dim))

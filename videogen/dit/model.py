"""The diffusion transformer: patches, positions, a stack of exchangeable blocks, patches."""

from __future__ import annotations

import functools
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from videogen.denoiser import DENOISERS, Condition
from videogen.dit._checks import check_inputs
from videogen.dit.blocks import BLOCKS, Block, BlockCondition, Kit
from videogen.dit.codes import clip_axis
from videogen.dit.embeddings import Size, filled_up, patchify, token_grid, unpatchify
from videogen.dit.fusible import fuse
from videogen.dit.image_tokens.mlp import check_readers
from videogen.dit.initial import linear, zero_linear
from videogen.dit.layers import check_heads
from videogen.dit.memo import remembered
from videogen.dit.norms import NORMS
from videogen.dit.parts import Parts, choose
from videogen.dit.patterns import from_first
from videogen.dit.rotary import Rotary
from videogen.dit.schedule import layers
from videogen.dit.skips import LongSkips
from videogen.dit.text import known_frames, sentences


@DENOISERS.register("dit")
class DiT(nn.Module):
    """Diffusion transformer on video latents, https://arxiv.org/abs/2212.09748, with text (https://arxiv.org/abs/2310.00426).

    Args:
        latent_channels: channels of the latents, in and out.
        text_dim: width of the text tokens and of the pooled text.
        parts: blocks, positions, time, modulation, norms, MLP, text, image, known frames and kernels, see
            `videogen.dit.parts.choose`.
        pooled_dim: width of the pooled text; None is that of the text tokens.
        dim: width of the tokens.
        depth: number of blocks.
        num_heads: attention heads of a block.
        patch_size: latents a token along time, height and width.
        layers: which block each layer is, as `videogen.dit.schedule.layers` reads it; None is `depth` of the chosen
            one. It names registered blocks, or `block`, the chosen one.
        text_width: width of the text in the blocks; None is that of the tokens.
        fill: fill sides of the latents that are no multiple of their patch up with zeros, and cut the prediction back,
            as Open-Sora does; otherwise such latents are refused.
        learned_sigma: predict as many channels again, for a learned variance.
        bias: of the queries, keys and values.
        text_tokens: fill the text up with zeros to so many tokens, all of which are attended to, as Wan does; 0 leaves
            padding out of attention.
        null_tokens: length of a text of the model's own, for the absence of text in guidance; 0 for none.
        norm_out: registered norm before the last layer, with its defaults; None is the one of the blocks.
        stages: blocks of each stage of a U of long skip connections, see `videogen.dit.skips.LongSkips`; none is no U.
        final_norm: another norm of the tokens, between the blocks and that one.

    Raises:
        ValueError: sizes that don't divide, a schedule of another length than `depth`, or parts that don't go together.
    """

    null_text: Tensor | None

    def __init__(
        self,
        latent_channels: int,
        text_dim: int,
        parts: Parts | None = None,
        pooled_dim: int | None = None,
        *,
        dim: int = 256,
        depth: int = 6,
        num_heads: int = 4,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        layers: str | None = None,
        text_width: int | None = None,
        fill: bool = False,
        learned_sigma: bool = False,
        bias: bool = True,
        text_tokens: int = 0,
        null_tokens: int = 0,
        norm_out: str | None = None,
        stages: tuple[int, ...] = (),
        final_norm: bool = False,
    ) -> None:
        super().__init__()
        head_dim = check_heads(dim, num_heads)
        parts = parts or choose()
        parts.check(layers, head_dim)
        if stages and sum(stages) != depth:
            raise ValueError(f"stages={list(stages)} have {sum(stages)} blocks, not depth={depth}: make them agree")
        self.latent_channels, self.text_dim, self.dim = latent_channels, text_dim, dim
        self.patch_size: Size = (patch_size[0], patch_size[1], patch_size[2])
        self.pooled_dim, self.kernel = pooled_dim or text_dim, parts.attention
        self.text_tokens, self.fill, self.learned_sigma = text_tokens, fill, learned_sigma

        volume = patch_size[0] * patch_size[1] * patch_size[2]
        self.known = parts.known(latent_channels, volume, dim)
        self.embed = linear((latent_channels + self.known.channels) * volume, dim)
        self.position = parts.position(dim, num_heads)
        self.time = parts.time(dim)
        self.text = parts.caption(text_dim, text_width or dim)
        self.pooled = parts.pool(text_dim, self.pooled_dim, self.time.dim)
        self.image = parts.image_tokens(dim)
        readers = self.known, self.position, self.time, self.pooled, self.image
        self.conditions = frozenset({"text", "text_mask", "valid"}).union(*(part.conditions for part in readers))
        self.required = frozenset[str]().union(*(getattr(part, "required", ()) for part in readers))
        self.known_mask_channels = getattr(self.known, "mask_channels", 0)
        modulations = functools.partial(parts.modulation, dim, self.time.dim)
        modulation = modulations(parts.norm)
        blocks = _blocks(layers, depth, parts, dim, num_heads, parts.kit(modulation, bias, text_width))
        # a Block is a callable; whatever a config can name is an nn.Module too
        self.blocks = nn.ModuleList(blocks)  # type: ignore[arg-type]
        check_readers(self.blocks, self.image.image_dim)
        self.reads_null = any(getattr(module, "reads_null", False) for module in self.blocks.modules())
        if self.reads_null and not null_tokens:
            raise ValueError("known frames are to read the model's own text for none: set denoiser.null_tokens above 0")
        branches = max(getattr(module, "branches", 0) for module in self.blocks.modules())
        last = modulations(functools.partial(NORMS.build, norm_out)) if norm_out else modulation
        self.shared, self.modulation = modulation.shared(branches), last.final()
        self.conditions |= getattr(self.shared, "conditions", frozenset())
        self.skips = LongSkips(stages, dim, text_width or dim) if stages else None
        self.norm = parts.norm(dim) if final_norm else nn.Identity()
        self.out = zero_linear(dim, latent_channels * volume * (1 + learned_sigma))
        # drawn once and kept, as in Open-Sora, whose training doesn't change it either
        self.register_buffer("null_text", torch.randn(null_tokens, text_dim) * text_dim**-0.5 if null_tokens else None)
        fuse(self, parts.fused)

    def forward(
        self, latents: Float[Tensor, "b c t h w"], timestep: Shaped[Tensor, "b ..."], condition: Condition
    ) -> Float[Tensor, "b c_out t h w"]:
        """Predict (B, C, T, H, W) -> (B, C or 2 C, T, H, W); what stands at invalid positions means nothing.

        Args:
            timestep: (B,), or one a frame (B, T).
            condition: text (B, L, text_dim) with text_mask (B, L), pooled (B, pooled_dim), valid (B, T, H, W); where
                the model takes them, known (B, C, T, H, W) with known_mask, see `Condition`, image (B, L, image_dim)
                with text.

        Raises:
            ValueError: a field of the condition that this model would ignore, or a shape that doesn't fit.
        """
        condition.require_subset("dit", self.conditions)
        widths = self.text_dim, self.pooled_dim
        check_inputs(latents, timestep, condition, self.latent_channels, widths, self.patch_size[0])
        tokens, grid, valid = self._tokens(latents, condition)
        time = self._time(timestep, condition, tokens.dtype)
        # one stream of text can't be at several times; of several, it is at the noisiest
        noisiest = _noisiest(timestep, condition.valid) if timestep.ndim == 2 else timestep
        text_time = None if timestep.ndim == 1 else self._time(noisiest, condition, tokens.dtype)
        memo = condition.memo()
        text, words = sentences(condition.text, condition.text_mask, self.text_tokens, memo)
        inner = BlockCondition(
            grid=grid,
            time=self._signals(time, condition, grid, valid),
            text_time=None if text_time is None else self._signals(text_time, condition, grid, valid),
            rotary=self._rotary(grid, valid, condition),
            text_mask=words,
            image=self.image(condition),
            valid=valid,
            memo=memo,
            **self._unprompted(text, condition, memo),
        )
        text = self._text(text, words, noisiest, memo)
        if self.skips is not None:
            tokens, text = self.skips.run(self.blocks, tokens, text, inner)
        else:
            for block in self.blocks:
                tokens, text = block(tokens, text, inner)
        out = unpatchify(self.out(self.modulation(self.norm(tokens), time, grid)), grid, self.patch_size)
        # sides that were filled up are cut back
        frames, rows, columns = latents.shape[2:]
        return out[:, :, :frames, :rows, :columns]

    def _tokens(self, latents: Tensor, condition: Condition) -> tuple[Tensor, Size, Tensor | None]:
        """Tokens (B, N, D) at their places, their grid, and which of them are valid (B, N)."""
        beside, valid = self.known.beside(latents, condition), condition.valid
        if valid is not None:
            # padding may hold anything, even NaN, which a masked attention would still spread
            latents = latents.masked_fill(~valid[:, None], 0.0)
            beside = None if beside is None else beside.masked_fill(~valid[:, None], 0.0)
            valid = valid[:, None]
        if self.fill:
            latents = filled_up(latents, self.patch_size)
            beside = None if beside is None else filled_up(beside, self.patch_size)
            valid = None if valid is None else filled_up(valid, self.patch_size)
        grid = token_grid((latents.shape[2], latents.shape[3], latents.shape[4]), self.patch_size)
        if valid is not None:
            valid = patchify(valid, self.patch_size).any(-1)
        given = None if beside is None else patchify(beside, self.patch_size)
        tokens = self.known(self._embedded, patchify(latents, self.patch_size), given)
        sized = {"size": condition.size} if "size" in self.position.conditions else {}
        return self.position.add(tokens, grid, valid, **sized), grid, valid

    def _embedded(self, patches: Tensor) -> Tensor:
        # the residual stream keeps the precision of the weights: autocast would round it at every block
        embedded: Tensor = self.embed(patches)
        return embedded.to(self.embed.weight.dtype)

    def _rotary(self, grid: Size, valid: Tensor | None, condition: Condition) -> Rotary | None:
        sized = {"size": condition.size} if getattr(self.position, "turns_by_size", False) else {}
        rotary: Rotary | None = self.position.rotary(grid, self.embed.weight.device, condition.fps, **sized)
        if rotary is None or valid is None:
            return rotary
        # a clip's places count from its own first token: next to text, which isn't turned, they aren't relative
        return rotary.moved(from_first(valid, grid))

    def _text(
        self, text: Tensor | None, words: Tensor | None, timestep: Tensor, memo: dict[Any, Any] | None
    ) -> Tensor | None:
        """The text as the blocks read it, (B, L, text_width)."""
        if text is None:
            return None
        if getattr(self.text, "timed", False):
            timed: Tensor = self.text(text, words, self.time.scaled(timestep), self.kernel)
            return timed
        said = text
        kept: Tensor = remembered(memo, self.text, self.embed.weight, lambda: self.text(said))
        return kept

    def _unprompted(self, text: Tensor | None, condition: Condition, memo: dict[Any, Any] | None) -> dict[str, Tensor]:
        """The model's own text for none, as long as the text, and which frames read it, (1, L, text_width), (B, T)."""
        if not self.reads_null or self.null_text is None or text is None or condition.known_mask is None:
            return {}
        length = text.shape[1]
        if length > len(self.null_text):
            raise ValueError(f"a text of {length} tokens, and the model's own has {len(self.null_text)}: shorten it")
        own = self.null_text[None, :length].to(text.dtype)
        null = remembered(memo, self, self.embed.weight, lambda: self.text(own))
        return {"null": null, "known": known_frames(condition.known_mask, self.patch_size[0])}

    def _time(self, timestep: Tensor, condition: Condition, dtype: torch.dtype) -> Tensor:
        """What modulates the blocks: timestep, scalars and pooled text, (B, 1, D) or (B, T, D)."""
        time: Tensor = self.time(timestep if timestep.ndim == 2 else timestep[:, None], dtype, condition)
        whole = self.pooled(condition, self.kernel)
        return time if whole is None else time + whole[:, None]

    def _signals(self, time: Tensor, condition: Condition, grid: Size, valid: Tensor | None) -> Tensor:
        """What all blocks are modulated by, (B, F, …): made of the time, and of the clip if the modulation asks."""
        if not getattr(self.shared, "conditions", None):
            return self.shared(time)  # type: ignore[no-any-return]
        _, frames = clip_axis(grid, 0, time.device, valid)
        return self.shared(time, condition, frames * self.patch_size[0])  # type: ignore[no-any-return]


def _noisiest(timestep: Tensor, valid: Tensor | None) -> Tensor:
    """The highest of the times of a clip's own frames, (B, T) -> (B,); `valid` (B, T, H, W) is False for padding."""
    if valid is not None:
        timestep = timestep.where(valid.flatten(2).any(-1), timestep.amin())
    return timestep.amax(1)


def _blocks(schedule: str | None, depth: int, parts: Parts, dim: int, num_heads: int, kit: Kit) -> list[Block]:
    if schedule is None:
        return [parts.block(dim, num_heads, kit) for _ in range(depth)]
    wanted = layers(schedule)
    if len(wanted) != depth:
        raise ValueError(f"layers={schedule} are {len(wanted)}, not depth={depth}: make them agree")
    # an unknown name or knob is an error before the first block is allocated
    for name, knobs in wanted:
        if name != "block":
            BLOCKS.check(name, knobs)
        elif knobs:
            raise ValueError(f"layers={schedule}: `block` is the chosen block, whose knobs are set there, not here")
    return [
        parts.block(dim, num_heads, kit) if name == "block" else BLOCKS.build(name, dim, num_heads, kit, **knobs)
        for name, knobs in wanted
    ]

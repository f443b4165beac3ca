"""The 3D U-Net of ModelScope, Zeroscope, VideoCrafter and DynamiCrafter: an image U-Net with layers along time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from videogen.denoiser import DENOISERS, Condition
from videogen.kernels import Attention
from videogen.unet._checks import check_inputs
from videogen.unet.embeddings import NumberEmbedding
from videogen.unet.layers import EPS, ResBlock, TimeConv, UNetCondition
from videogen.unet.levels import Cell, way_down, way_up
from videogen.unet.transformers import SpatialTransformer, TemporalTransformer, heads_of


@DENOISERS.register("unet")
class UNet(nn.Module):
    """U-Net with attention within frames and along time, https://arxiv.org/abs/2308.06571, figure 3.

    Heights and widths may be any: the way up goes back to the sizes of the way down. As built, it is ModelScope's
    network; VideoCrafter's (https://arxiv.org/abs/2310.19512, https://arxiv.org/abs/2401.09047) and DynamiCrafter's
    (https://arxiv.org/abs/2310.12190) differ by the knobs from `time_conv` on.

    Args:
        latent_channels: channels of the latents, and of the prediction.
        text_dim: width of text and image tokens.
        attention: the kernel that all attention without relative positions runs on.
        base_channels: width behind the first convolution, a multiple of norm_groups.
        channel_multipliers: width of each level as a multiple of base_channels, finest first.
        num_res_blocks: cells a level on the way down; the way up has one more.
        attention_levels: for each level, whether its cells attend; those between the two ways always do.
        head_dim: width of an attention head.
        first_heads: heads of the temporal transformer right behind the first convolution; 0 leaves it out.
        norm_groups: groups of the normalisation before convolutions and transformers.
        timestep_scale: what timesteps are multiplied with: 1 for steps of 0 … 999, 1000 for times in [0, 1].
        dropout: in residual blocks.
        time_dropout: in convolutions along time.
        zero_init: let every residual branch and the prediction start as zero.
        time_conv: convolutions along time behind each residual block.
        relative_positions: the largest distance in frames that attention along time tells apart; 0 for none.
        use_fps: add the embedded frames a second to the timestep.
        default_fps: stands in where the condition has no fps; None lets it be required.
        image_attention: attend to image tokens beside the text.
        image_gate: let each of these attentions learn the image's weight.
        image_tokens_per_frame: as many image tokens as T times this number are each frame's own; any other number of
            them is seen by all frames. 0 lets all frames see all.
        known_latents: take latents of known frames as further channels of the first convolution.

    Raises:
        ValueError: sizes that don't divide, or knobs that the others would have no use for.
    """

    def __init__(
        self,
        latent_channels: int,
        text_dim: int,
        attention: Attention,
        *,
        base_channels: int = 320,
        channel_multipliers: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attention_levels: tuple[bool, ...] = (True, True, True, False),
        head_dim: int = 64,
        first_heads: int = 8,
        norm_groups: int = 32,
        timestep_scale: float = 1.0,
        dropout: float = 0.0,
        time_dropout: float = 0.1,
        zero_init: bool = True,
        time_conv: bool = True,
        relative_positions: int = 0,
        use_fps: bool = False,
        default_fps: float | None = None,
        image_attention: bool = False,
        image_gate: bool = False,
        image_tokens_per_frame: int = 0,
        known_latents: bool = False,
    ) -> None:
        super().__init__()
        _check_knobs(base_channels, channel_multipliers, attention_levels, norm_groups)
        if (image_gate or image_tokens_per_frame) and not image_attention:
            raise ValueError("image_gate and image_tokens_per_frame are for image_attention=true: leave them out")
        if default_fps is not None and not use_fps:
            raise ValueError(f"default_fps={default_fps} is for use_fps=true: leave it out")
        self.latent_channels, self.text_dim = latent_channels, text_dim
        self.timestep_scale, self.default_fps = timestep_scale, default_fps
        self.image_tokens_per_frame = image_tokens_per_frame
        optional = {"fps": use_fps, "image": image_attention, "known": known_latents, "known_mask": known_latents}
        self.conditions = frozenset({"text", "text_mask"} | {name for name, taken in optional.items() if taken})
        self.required = self.conditions & {"text", "image", "known", *(() if default_fps is not None else ("fps",))}

        def along_time(channels: int, heads: int) -> TemporalTransformer:
            return TemporalTransformer(channels, heads, head_dim, norm_groups, attention, relative_positions)

        def cell(channels_in: int, channels: int, attends: bool) -> Cell:
            res = ResBlock(channels_in, channels, 4 * base_channels, norm_groups, dropout)
            conv = TimeConv(channels, norm_groups, time_dropout) if time_conv else None
            if not attends:
                return Cell(res, conv, None, None)
            gates = {"image_attention": image_attention, "image_gate": image_gate}
            space = SpatialTransformer(channels, head_dim, text_dim, norm_groups, attention, **gates)
            return Cell(res, conv, space, along_time(channels, heads_of(channels, head_dim)))

        self.time = NumberEmbedding(base_channels)
        self.fps = NumberEmbedding(base_channels) if use_fps else None
        self.conv_in = nn.Conv2d(latent_channels * (2 if known_latents else 1), base_channels, 3, padding=1)
        self.first = along_time(base_channels, first_heads) if first_heads else None
        widths = [base_channels * multiplier for multiplier in channel_multipliers]
        self.down = nn.ModuleList(way_down(base_channels, widths, num_res_blocks, attention_levels, cell))
        self.middle = nn.ModuleList([cell(widths[-1], widths[-1], attends) for attends in (True, False)])
        self.up = nn.ModuleList(way_up(base_channels, widths, num_res_blocks, attention_levels, cell))
        self.norm_out = nn.GroupNorm(norm_groups, widths[0], eps=EPS)
        self.conv_out = nn.Conv2d(widths[0], latent_channels, 3, padding=1)
        if zero_init:
            branches = (ResBlock, TimeConv, SpatialTransformer, TemporalTransformer)
            ends = [module.out for module in self.modules() if isinstance(module, branches)]
            for parameter in nn.ModuleList([*ends, self.conv_out]).parameters():
                nn.init.zeros_(parameter)

    @property
    def blocks(self) -> list[Cell]:
        """All cells, in the order of the forward pass."""
        return [module for module in self.modules() if isinstance(module, Cell)]

    def forward(
        self, latents: Float[Tensor, "b c t h w"], timestep: Shaped[Tensor, "b ..."], condition: Condition
    ) -> Float[Tensor, "b c t h w"]:
        """Predict (B, C, T, H, W) -> (B, C, T, H, W), for any height and width.

        Args:
            timestep: (B,), or one a frame (B, T).
            condition: text (B, L, text_dim) with text_mask (B, L); with the knobs that take them, fps (B,), image
                (B, L_image, text_dim), known (B, C, T, H, W) with known_mask (B, T), beyond which known counts as
                zeros.

        Raises:
            ValueError: a field of the condition that this model would ignore, one that it needs, or a shape that
                doesn't fit.
        """
        condition.require_subset("unet", self.conditions)
        check_inputs(latents, timestep, condition, self.latent_channels, self.text_dim, self.required)
        frames = latents.shape[2]
        inner = self._condition(timestep, condition, frames)
        x = self.conv_in(rearrange(_with_known(latents, condition), "b c t h w -> (b t) c h w"))
        if self.first is not None:
            x = self.first(x, inner)
        skips = [x]
        for level in self.down:
            x = level(x, inner, skips)
        for cell in self.middle:
            x = cell(x, inner)
        for level in self.up:
            x = level(x, inner, skips)
        x = self.conv_out(nn.functional.silu(self.norm_out(x)))
        out: Tensor = rearrange(x, "(b t) c h w -> b c t h w", t=frames)
        return out

    def _condition(self, timestep: Tensor, condition: Condition, frames: int) -> UNetCondition:
        """What the cells take: one embedding of time and fps, tokens as they are shared among frames."""
        assert condition.text is not None
        dtype = self.conv_in.weight.dtype
        time = self.time((timestep if timestep.ndim == 2 else timestep[:, None]) * self.timestep_scale, dtype)
        if self.fps is not None:
            fps = condition.fps
            if fps is None:
                assert self.default_fps is not None
                fps = torch.full((len(timestep),), self.default_fps, device=timestep.device)
            time = time + self.fps(fps[:, None], dtype)
        image = condition.image
        if image is not None and image.shape[1] == frames * self.image_tokens_per_frame:
            image = rearrange(image, "b (t l) d -> (b t) l d", t=frames)
        return UNetCondition(frames, time, condition.text, condition.text_mask, image)


def _with_known(latents: Tensor, condition: Condition) -> Tensor:
    """The latents, and beside them those of the known frames, if any are given (B, C or 2C, T, H, W)."""
    if condition.known is None:
        return latents
    known = condition.known
    if condition.known_mask is not None:
        known = known.masked_fill(~condition.known_mask[:, None, :, None, None], 0.0)
    return torch.cat([latents, known.to(latents.dtype)], dim=1)


def _check_knobs(base: int, multipliers: Sequence[int], attends: Sequence[bool], groups: int) -> None:
    if not multipliers or len(attends) != len(multipliers):
        raise ValueError(
            f"attention_levels={tuple(attends)} for channel_multipliers={tuple(multipliers)}: give one of each a level"
        )
    if base % groups:
        raise ValueError(f"base_channels {base} can't be normalised in {groups} groups: norm_groups must divide it")

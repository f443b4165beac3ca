"""What diffusers' autoencoders in the shape of Stable Diffusion's share: how their widths and stages are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from videogen.checkpoints.layout import Config

#: side of the network ("down" or "up"), levels, residual blocks a level -> published names in the forward pass' order
Stages = Callable[[str, int, int], list[str]]

#: linear layers there, convolutions of 1x1x1 here
ATTENTION_AXES = {r".*\.attentions\.0\.to_(q|k|v|out\.0)\.weight": 2}


def level_knobs(config: Config) -> dict[str, Any]:
    """The knobs of the levels; ValueError for widths that are no multiples of the first."""
    widths = list(config["block_out_channels"])
    base = widths[0]
    if any(width % base for width in widths):
        raise ValueError(f"block_out_channels={widths}: each must be a multiple of the first")
    return {
        "latent_channels": config["latent_channels"],
        "base_channels": base,
        "channel_multipliers": tuple(width // base for width in widths),
        "num_res_blocks": config["layers_per_block"],
        "norm_groups": config["norm_num_groups"],
    }


def stages(side: str, levels: int, blocks: int, sampler: str) -> list[str]:
    """The published names of the stages of one half, in the order of the forward pass."""
    names = []
    for level in range(levels):
        names += [f"{side}_blocks.{level}.resnets.{block}" for block in range(blocks)]
        names.append(f"{side}_blocks.{level}.{sampler}")
    # the last level changes no resolution
    return names[:-1]


def stage_renames(knobs: Config, named: Stages) -> list[tuple[str, str]]:
    """Our numbered stages -> the published ones, of both halves."""
    levels, blocks = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    return [
        (rf"^{half}\.levels\.{index}\.", f"{half}.{stage}.")
        for half, side, count in (("encoder", "down", blocks), ("decoder", "up", blocks + 1))
        for index, stage in enumerate(named(side, levels, count))
    ]


def outer_renames(knobs: Config) -> list[tuple[str, str]]:
    """The coarsest level, with or without attention, and what lies around the levels."""
    last = 2 if knobs["use_attention"] else 1
    return [
        (r"\.middle\.0\.", ".mid_block.resnets.0."),
        (rf"\.middle\.{last}\.", ".mid_block.resnets.1."),
        (r"\.middle\.1\.norm\.", ".mid_block.attentions.0.group_norm."),
        (r"\.middle\.1\.qkv\.", ".mid_block.attentions.0.{to_q,to_k,to_v}."),
        (r"\.middle\.1\.out\.", ".mid_block.attentions.0.to_out.0."),
        (r"\.shortcut\.", ".conv_shortcut."),
        (r"^(encoder|decoder)\.norm\.", r"\1.conv_norm_out."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"^encoder\.quant\.", "quant_conv."),
        (r"^decoder\.quant\.", "post_quant_conv."),
    ]

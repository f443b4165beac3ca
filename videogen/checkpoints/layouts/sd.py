"""The image autoencoder of Stable Diffusion, as diffusers stores it (AutoencoderKL)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderKL"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    widths = list(config["block_out_channels"])
    base = widths[0]
    if any(width % base for width in widths):
        raise ValueError(f"block_out_channels={widths}: each must be a multiple of the first")
    channels = config["latent_channels"]
    shift, scale = config.get("shift_factor") or 0.0, config.get("scaling_factor", 0.18215)
    return {
        "latent_channels": channels,
        "base_channels": base,
        "channel_multipliers": tuple(width // base for width in widths),
        "num_res_blocks": config["layers_per_block"],
        "norm_groups": config["norm_num_groups"],
        "use_attention": config.get("mid_block_add_attention", True),
        "use_quant_conv": config.get("use_quant_conv", True),
        "latent_shift": (float(shift),) * channels,
        "latent_scale": (float(scale),) * channels,
    }


def _stages(side: str, levels: int, blocks: int) -> list[str]:
    """The published names of the stages of one half, in the order of the forward pass."""
    names = []
    for level in range(levels):
        names += [f"{side}_blocks.{level}.resnets.{block}" for block in range(blocks)]
        names.append(f"{side}_blocks.{level}.{side}samplers.0")
    # the last level changes no resolution
    return names[:-1]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    levels, blocks = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    last = 2 if knobs["use_attention"] else 1
    stages = [
        (rf"^{half}\.levels\.{index}\.", f"{half}.{stage}.")
        for half, side, count in (("encoder", "down", blocks), ("decoder", "up", blocks + 1))
        for index, stage in enumerate(_stages(side, levels, count))
    ]
    return [
        *stages,
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


LAYOUT = Layout(
    kind="vae",
    part="framewise",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes={r".*\.attentions\.0\.to_(q|k|v|out\.0)\.weight": 2},
)

"""The 3D U-Net of ModelScope and Zeroscope, as diffusers stores it (UNet3DConditionModel)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._unet import FIRST_HEADS, INSIDE

#: settings of which one value alone is known here
FIXED = {
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "num_attention_heads": None,
    "time_cond_proj_dim": None,
}
#: names of levels -> whether they attend
DOWN = {"CrossAttnDownBlock3D": True, "DownBlock3D": False}
UP = {"CrossAttnUpBlock3D": True, "UpBlock3D": False}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "UNet3DConditionModel"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    latents, widths = config.get("in_channels", 4), list(config["block_out_channels"])
    wanted = {**FIXED, "out_channels": latents, "up_block_types": _mirrored(config["down_block_types"])}
    for key, value in wanted.items():
        found = config.get(key, value)
        found = list(found) if isinstance(found, tuple) else found
        if found != value:
            raise ValueError(f"{key}={found!r} is not implemented: only {value!r} is")
    head_dim = config["attention_head_dim"]
    if not isinstance(head_dim, int):
        raise ValueError(f"attention_head_dim={head_dim}: only one number for all levels is implemented")
    if any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels={widths}: each must be a multiple of the first")
    return {
        "latent_channels": latents,
        "text_dim": config["cross_attention_dim"],
        "base_channels": widths[0],
        "channel_multipliers": tuple(width // widths[0] for width in widths),
        "num_res_blocks": config["layers_per_block"],
        "attention_levels": tuple(DOWN[kind] for kind in config["down_block_types"]),
        "head_dim": head_dim,
        "first_heads": FIRST_HEADS,
        "norm_groups": config["norm_num_groups"],
    }


def _mirrored(kinds: list[str]) -> list[str]:
    """The way up that belongs to these levels of the way down."""
    unknown = sorted(set(kinds) - set(DOWN))
    if unknown:
        raise ValueError(f"down_block_types={list(kinds)}: {unknown[0]} is not implemented, only {', '.join(DOWN)}")
    names = {attends: name for name, attends in UP.items()}
    return [names[DOWN[kind]] for kind in reversed(kinds)]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        *INSIDE,
        (r"\.res\.time\.", ".res.time_emb_proj."),
        (r"\.res\.out\.", ".res.conv2."),
        (r"\.res\.shortcut\.", ".res.conv_shortcut."),
        (r"^(down|up)\.(\d+)\.cells\.(\d+)\.(\w+)\.", r"\1_blocks.\2.\4.\3."),
        (r"^middle\.(\d)\.(\w+)\.", r"mid_block.\2.\1."),
        (r"^((down|up)_blocks\.\d+|mid_block)\.res\.", r"\1.resnets."),
        (r"^((down|up)_blocks\.\d+|mid_block)\.time_conv\.", r"\1.temp_convs."),
        (r"^((down|up)_blocks\.\d+|mid_block)\.space\.", r"\1.attentions."),
        (r"^((down|up)_blocks\.\d+|mid_block)\.temporal\.", r"\1.temp_attentions."),
        (r"^(down|up)\.(\d+)\.resample\.", r"\1_blocks.\2.\1samplers.0.conv."),
        (r"^first\.", "transformer_in."),
        (r"^time\.mlp\.0\.", "time_embedding.linear_1."),
        (r"^time\.mlp\.2\.", "time_embedding.linear_2."),
        (r"^norm_out\.", "conv_norm_out."),
    ]


LAYOUT = Layout(kind="denoiser", part="unet", recognise=_recognise, knobs=_knobs, renames=_renames)


@LAYOUTS.register("unet3d")
def _layout() -> Layout:
    return LAYOUT

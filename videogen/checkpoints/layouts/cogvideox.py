"""CogVideoX's autoencoder, as diffusers stores it (AutoencoderKLCogVideoX)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout

# settings that no release uses otherwise, and that our part has no knob for
FIXED = {
    "in_channels": 3,
    "out_channels": 3,
    "act_fn": "silu",
    "norm_eps": 1e-6,
    "temporal_compression_ratio": 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderKLCogVideoX"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    for name, expected in FIXED.items():
        if config.get(name, expected) != expected:
            raise ValueError(f"{name}={config[name]!r}: only {expected!r} is supported")
    widths = list(config["block_out_channels"])
    base = widths[0]
    if any(width % base for width in widths):
        raise ValueError(f"block_out_channels={widths}: each must be a multiple of the first")
    channels = config["latent_channels"]
    return {
        "latent_channels": channels,
        "base_channels": base,
        "channel_multipliers": tuple(width // base for width in widths),
        "num_res_blocks": config["layers_per_block"],
        "norm_groups": config["norm_num_groups"],
        "latent_scale": (float(config.get("scaling_factor", 1.15258426)),) * channels,
    }


def _stages(side: str, levels: int, blocks: int) -> list[str]:
    """The published names of the stages of one half, in the order of the forward pass."""
    names = []
    for level in range(levels):
        names += [f"{side}_blocks.{level}.resnets.{block}" for block in range(blocks)]
        names.append(f"{side}_blocks.{level}.{side}samplers.0")
    middle = ["mid_block.resnets.0", "mid_block.resnets.1"]
    # the last level changes no resolution
    return [*names[:-1], *middle] if side == "down" else [*middle, *names[:-1]]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    levels, blocks = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    stages = [
        (rf"^{half}\.levels\.{index}\.", f"{half}.{stage}.")
        for half, side, count in (("encoder", "down", blocks), ("decoder", "up", blocks + 1))
        for index, stage in enumerate(_stages(side, levels, count))
    ]
    return [
        *stages,
        (r"\.shortcut\.conv\.", ".conv_shortcut."),
        (r"^(encoder|decoder)\.norm\.", r"\1.norm_out."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"\.(norm1|norm2|norm_out)\.norm\.", r".\1.norm_layer."),
        (r"\.(norm1|norm2|norm_out)\.scale\.", r".\1.conv_y.conv."),
        (r"\.(norm1|norm2|norm_out)\.shift\.", r".\1.conv_b.conv."),
    ]


LAYOUT = Layout(kind="vae", part="cogvideox", recognise=_recognise, knobs=_knobs, renames=_renames)

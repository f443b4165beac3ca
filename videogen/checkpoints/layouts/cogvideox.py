"""CogVideoX's autoencoder, as diffusers stores it (AutoencoderKLCogVideoX)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._diffusers import level_knobs, stage_renames, stages

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
    channels = config["latent_channels"]
    return {
        **level_knobs(config),
        "latent_scale": (float(config.get("scaling_factor", 1.15258426)),) * channels,
    }


def _stages(side: str, levels: int, blocks: int) -> list[str]:
    """The middle's blocks and those of the coarsest level are one list here."""
    names, middle = stages(side, levels, blocks, f"{side}samplers.0"), ["mid_block.resnets.0", "mid_block.resnets.1"]
    return [*names, *middle] if side == "down" else [*middle, *names]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        *stage_renames(knobs, _stages),
        (r"\.shortcut\.conv\.", ".conv_shortcut."),
        (r"^(encoder|decoder)\.norm\.", r"\1.norm_out."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"\.(norm1|norm2|norm_out)\.norm\.", r".\1.norm_layer."),
        (r"\.(norm1|norm2|norm_out)\.scale\.", r".\1.conv_y.conv."),
        (r"\.(norm1|norm2|norm_out)\.shift\.", r".\1.conv_b.conv."),
    ]


LAYOUT = Layout(kind="vae", part="cogvideox", recognise=_recognise, knobs=_knobs, renames=_renames)


@LAYOUTS.register("cogvideox")
def _layout() -> Layout:
    return LAYOUT

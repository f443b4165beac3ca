"""The image autoencoder of Stable Diffusion, as diffusers stores it (AutoencoderKL)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._diffusers import ATTENTION_AXES, level_knobs, outer_renames, stage_renames, stages


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderKL"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    channels = config["latent_channels"]
    shift, scale = config.get("shift_factor") or 0.0, config.get("scaling_factor", 0.18215)
    return {
        **level_knobs(config),
        "use_attention": config.get("mid_block_add_attention", True),
        "use_quant_conv": config.get("use_quant_conv", True),
        "latent_shift": (float(shift),) * channels,
        "latent_scale": (float(scale),) * channels,
    }


def _stages(side: str, levels: int, blocks: int) -> list[str]:
    return stages(side, levels, blocks, f"{side}samplers.0")


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [*stage_renames(knobs, _stages), *outer_renames(knobs)]


LAYOUT = Layout(
    kind="vae",
    part="framewise",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes=ATTENTION_AXES,
)


@LAYOUTS.register("sd")
def _layout() -> Layout:
    return LAYOUT

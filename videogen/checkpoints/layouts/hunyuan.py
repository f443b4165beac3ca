"""HunyuanVideo's autoencoder, as diffusers stores it (AutoencoderKLHunyuanVideo)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts._diffusers import ATTENTION_AXES, level_knobs, outer_renames, stage_renames, stages


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderKLHunyuanVideo"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    levels = len(config["block_out_channels"])
    for name, expected in (
        ("in_channels", 3),
        ("out_channels", 3),
        ("act_fn", "silu"),
        ("temporal_compression_ratio", 4),
        ("spatial_compression_ratio", 2 ** (levels - 1)),
    ):
        if config.get(name, expected) != expected:
            raise ValueError(f"{name}={config[name]!r} with {levels} levels: only {expected!r} is supported")
    channels = config["latent_channels"]
    return {
        **level_knobs(config),
        "use_attention": config.get("mid_block_add_attention", True),
        "latent_scale": (float(config.get("scaling_factor", 0.476986)),) * channels,
    }


def _stages(side: str, levels: int, blocks: int) -> list[str]:
    # a downsampler is a convolution, an upsampler holds one
    return stages(side, levels, blocks, "downsamplers.0.conv" if side == "down" else "upsamplers.0")


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [*stage_renames(knobs, _stages), *outer_renames(knobs)]


LAYOUT = Layout(
    kind="vae",
    part="hunyuan",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes=ATTENTION_AXES,
)

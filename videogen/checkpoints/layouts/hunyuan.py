"""HunyuanVideo's autoencoder, as diffusers stores it (AutoencoderKLHunyuanVideo) and as its authors published it.

The original file, pytorch_model.pt, has the same names, with or without "vae." before each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._diffusers import ATTENTION_AXES, level_knobs, outer_renames, stage_renames, stages
from videogen.checkpoints.layouts._shapes import level_config

#: classes of diffusers and of the authors; without a config the names of the tensors decide
CLASSES = ("AutoencoderKLHunyuanVideo", "AutoencoderKLCausal3D")


def _recognise(config: Config, keys: Collection[str]) -> bool:
    if "_class_name" in config:
        return config["_class_name"] in CLASSES
    return set(keys) >= {"encoder.down_blocks.0.downsamplers.0.conv.conv.weight", "quant_conv.weight"}


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    if "block_out_channels" not in config:
        attends = "encoder.mid_block.attentions.0.group_norm.weight" in tensors
        told = level_config(tensors, "down_blocks", "resnets", ".conv")
        config = {**config, **told, "mid_block_add_attention": attends}
    levels = len(config["block_out_channels"])
    for name, expected in (
        ("in_channels", 3),
        ("out_channels", 3),
        ("act_fn", "silu"),
        ("temporal_compression_ratio", 4),
        ("time_compression_ratio", 4),
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
    prefixes=("vae.",),
)


@LAYOUTS.register("hunyuan")
def _layout() -> Layout:
    return LAYOUT

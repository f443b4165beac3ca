"""The image autoencoder of Stable Diffusion and Flux as first released: alone, or in a file with the whole model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, sd
from videogen.checkpoints.layouts._shapes import ldm_renames, level_config


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # the video autoencoders with such names have 3D convolutions, which are called conv.weight, in their blocks
    return {"encoder.down.0.block.0.conv1.weight", "encoder.mid.block_1.conv1.weight", "decoder.conv_in.weight"} <= set(
        keys
    )


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    told = {
        **level_config(tensors, "down", "block", ""),
        "mid_block_add_attention": "encoder.mid.attn_1.norm.weight" in tensors,
        "use_quant_conv": "quant_conv.weight" in tensors,
    }
    knobs = sd.LAYOUT.knobs(told, tensors)
    return {key: value for key, value in knobs.items() if key not in LAYOUT.untold}


LAYOUT = Layout(
    kind="vae",
    part="framewise",
    recognise=_recognise,
    knobs=_knobs,
    renames=lambda knobs: [*sd.LAYOUT.renames(knobs), *ldm_renames(len(knobs["channel_multipliers"]))],
    # convolutions of 1x1 there
    axes={r".*\.mid\.attn_1\.(q|k|v|proj_out)\.weight": 4},
    # the training loss, and averages of weights that a trainer kept
    ignored=r"(loss|model_ema)\..*",
    prefixes=("first_stage_model.", "vae."),
    untold=("latent_shift", "latent_scale"),
)


@LAYOUTS.register("sd_original")
def _layout() -> Layout:
    return LAYOUT

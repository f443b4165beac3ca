"""OD-VAE as Open-Sora-Plan v1.2 published it (CausalVAEModel)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.vae.causal3d import TIME_STEPS

#: the layers of v1.2, level by level from the finest; v1.0 and v1.1 have others
RESNETS, DOWN, UP = "encoder_resnet_blocks", "encoder_spatial_downsample", "decoder_spatial_upsample"
V1_2 = {
    RESNETS: ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
    DOWN: ["Downsample", "Spatial2xTime2x3DDownsample", "Spatial2xTime2x3DDownsample", ""],
    UP: ["", "SpatialUpsample2x", "Spatial2xTime2x3DUpsample", "Spatial2xTime2x3DUpsample"],
    "encoder_attention": "AttnBlock3DFix",
}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # v1.1 has the same blocks, and layers of time alone between them
    in_time = any(config.get("encoder_temporal_downsample", ()))
    return config.get("_class_name") == "CausalVAEModel" and config.get(RESNETS) == V1_2[RESNETS] and not in_time


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    for key, value in V1_2.items():
        if config[key] != value:
            raise ValueError(f"{key}={config[key]} is not that of v1.2, {value}: other layers are not known here")
    return {
        "latent_channels": config["embed_dim"],
        "base_channels": config["hidden_size"],
        "channel_multipliers": tuple(config["hidden_size_mult"]),
        "num_res_blocks": config["num_res_blocks"],
        "latent_scale": (0.18215,) * config["embed_dim"],
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    levels, blocks = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    fine, coarse = ["conv_in"], list[str]()
    for level in range(levels):
        stages = [f"down.{level}.block.{block}" for block in range(blocks)]
        # the convolution into a level in time belongs to the coarse half
        split = fine if level < levels - TIME_STEPS else coarse
        split += stages
        if level < levels - 1:
            (fine if level < levels - 1 - TIME_STEPS else coarse).append(f"down.{level}.downsample")
    up: list[str] = []
    for level in reversed(range(levels)):
        up += [f"up.{level}.block.{block}" for block in range(blocks + 1)]
        if level:
            up.append(f"up.{level}.upsample" if level > levels - 1 - TIME_STEPS else f"up.{level}.upsample.conv")
    lists = {"encoder.fine": fine, "encoder.coarse": coarse, "decoder.levels": up}
    stages_of = [
        (rf"^{ours.replace('.', chr(92) + '.')}\.{index}\.", f"{ours.split('.')[0]}.{name}.")
        for ours, names in lists.items()
        for index, name in enumerate(names)
    ]
    return [
        *stages_of,
        (r"\.middle\.1\.qkv\.", ".mid.attn_1.{q,k,v}.conv."),
        (r"\.middle\.1\.out\.", ".mid.attn_1.proj_out.conv."),
        (r"\.middle\.1\.", ".mid.attn_1."),
        (r"\.middle\.0\.", ".mid.block_1."),
        (r"\.middle\.2\.", ".mid.block_2."),
        (r"\.shortcut\.", ".nin_shortcut."),
        (r"^(encoder|decoder)\.norm\.", r"\1.norm_out."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"^encoder\.quant\.", "quant_conv.conv."),
        (r"^decoder\.quant\.", "post_quant_conv.conv."),
    ]


LAYOUT = Layout(
    kind="vae",
    part="causal3d",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    # a convolution of each frame is a 3D one of a single tap there
    axes={r"decoder\.up\.\d\.upsample\.conv\.weight": 5, r"decoder\.up\.\d\.upsample\.conv\.conv\.weight": 5},
    ignored=r"loss\..*",
)


@LAYOUTS.register("odvae")
def _layout() -> Layout:
    return LAYOUT

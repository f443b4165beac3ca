"""The causal VAE of Open-Sora-Plan v1.0 (CausalVAEModel), with its layers in 3D throughout."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import odvae
from videogen.vae.causal3d import TIME_STEPS

BLOCKS = "encoder_resnet_blocks"
#: the layers of v1.0, level by level from the finest
V1_0 = {
    BLOCKS: ["ResnetBlock3D"] * 4,
    "encoder_spatial_downsample": ["SpatialDownsample2x"] * 3 + [""],
    "encoder_temporal_downsample": ["", "TimeDownsample2x", "TimeDownsample2x", ""],
    "decoder_spatial_upsample": [""] + ["SpatialUpsample2x"] * 3,
    "decoder_temporal_upsample": ["", "", "TimeUpsample2x", "TimeUpsample2x"],
}
#: "Fix" came later, for newly trained weights: the config decides
ATTENTION = {"AttnBlock3D": "scrambled", "AttnBlock3DFix": "frame"}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "CausalVAEModel" and config.get(BLOCKS) == V1_0[BLOCKS]


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    for key, value in V1_0.items():
        if config[key] != value:
            raise ValueError(f"{key}={config[key]} is not that of v1.0, {value}: other layers are not known here")
    attention = config["encoder_attention"]
    if attention not in ATTENTION or config["decoder_attention"] != attention:
        raise ValueError(
            f"encoder_attention={attention} and decoder_attention={config['decoder_attention']}: only two alike of "
            f"{', '.join(ATTENTION)} are known here"
        )
    return {
        "latent_channels": config["embed_dim"],
        "base_channels": config["hidden_size"],
        "channel_multipliers": tuple(config["hidden_size_mult"]),
        "num_res_blocks": config["num_res_blocks"],
        "time_resampling": "pool",
        "fine_in_time": True,
        "attention": ATTENTION[attention],
        "latent_scale": (0.18215,) * config["embed_dim"],
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    levels, blocks = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    # "" stands where a layer has no weights
    fine, coarse, up = ["conv_in"], list[str](), list[str]()
    for level in range(levels):
        (fine if level < levels - TIME_STEPS else coarse).extend(f"down.{level}.block.{i}" for i in range(blocks))
        if level < levels - 1:
            in_time = level >= levels - 1 - TIME_STEPS
            (coarse if in_time else fine).extend([f"down.{level}.downsample.conv", *[""] * in_time])
    for level in reversed(range(levels)):
        up += [f"up.{level}.block.{i}" for i in range(blocks + 1)]
        if level:
            up += [f"up.{level}.upsample.conv", *[""] * (level >= levels - TIME_STEPS)]
    stages = [
        (rf"^{half}\.{ours}\.{index}\.", f"{half}.{name}.")
        for half, ours, names in (("encoder", "fine", fine), ("encoder", "coarse", coarse), ("decoder", "levels", up))
        for index, name in enumerate(names)
        if name
    ]
    # the rest is called as in v1.2
    return [*stages, *odvae.LAYOUT.renames(knobs)]


LAYOUT = Layout(
    kind="vae",
    part="causal3d",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    # a convolution of each frame is a 3D one of a single tap there
    axes={r".*\.\d\.(down|up)sample\.conv\.conv\.weight": 5},
    ignored=r"loss\..*",
)

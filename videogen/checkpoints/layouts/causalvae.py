"""The causal VAE of Open-Sora-Plan v1.0 and v1.1 (CausalVAEModel), which halve time after height and width."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, odvae
from videogen.vae.causal3d import TIME_STEPS

BLOCKS, IN_TIME = "encoder_resnet_blocks", "encoder_temporal_downsample"
#: when v1.0 averages frames: the class has it late, the configuration of its release (scripts/causalvae/release.json)
#: early; no tensor tells, the config decides
LATE, EARLY = ["", "TimeDownsample2x", "TimeDownsample2x", ""], ["TimeDownsample2x", "TimeDownsample2x", "", ""]
#: the layers of each release, level by level from the finest; v1.1's as its docs/Train_And_Eval_CausalVideoVAE.md says
RELEASES = {
    "v1.0": {
        BLOCKS: ["ResnetBlock3D"] * 4,
        "encoder_spatial_downsample": ["SpatialDownsample2x"] * 3 + [""],
        "decoder_spatial_upsample": [""] + ["SpatialUpsample2x"] * 3,
        "decoder_temporal_upsample": ["", "", "TimeUpsample2x", "TimeUpsample2x"],
    },
    "v1.1": {
        BLOCKS: ["ResnetBlock2D", "ResnetBlock2D", "ResnetBlock3D", "ResnetBlock3D"],
        "encoder_spatial_downsample": ["Downsample"] * 3 + [""],
        IN_TIME: ["", "TimeDownsampleRes2x", "TimeDownsampleRes2x", ""],
        "decoder_spatial_upsample": [""] + ["SpatialUpsample2x"] * 3,
        "decoder_temporal_upsample": ["", "", "TimeUpsampleRes2x", "TimeUpsampleRes2x"],
    },
}
#: "Fix" came with v1.1, for newly trained weights: the config decides
ATTENTION = {"AttnBlock3D": "scrambled", "AttnBlock3DFix": "frame"}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "CausalVAEModel" and _release(config) is not None


def _release(config: Config) -> str | None:
    if config.get(BLOCKS) == RELEASES["v1.0"][BLOCKS]:
        return "v1.0"
    # v1.2 has the same blocks as v1.1, but no layers of time alone
    return "v1.1" if all(config.get(key) == RELEASES["v1.1"][key] for key in (BLOCKS, IN_TIME)) else None


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    release = _release(config) or "v1.0"
    for key, value in RELEASES[release].items():
        if config[key] != value:
            raise ValueError(f"{key}={config[key]} is not that of {release}, {value}: other layers are not known here")
    in_time = config[IN_TIME]
    if release == "v1.0" and in_time not in (LATE, EARLY):
        raise ValueError(f"{IN_TIME}={in_time} is not that of v1.0, {EARLY} or {LATE}: nothing else is known here")
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
        "time_resampling": "pool" if release == "v1.0" else "mixed",
        "fine_in_time": release == "v1.0",
        "pool_early": in_time == EARLY,
        "attention": ATTENTION[attention],
        "latent_scale": (0.18215,) * config["embed_dim"],
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    levels, blocks = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    mixed = knobs["time_resampling"] == "mixed"
    # "" stands where a layer has no weights
    fine, coarse, up = ["conv_in"], list[str](), list[str]()
    for level in range(levels):
        (coarse if level >= levels - TIME_STEPS else fine).extend(f"down.{level}.block.{i}" for i in range(blocks))
        if level < levels - 1:
            # where the blocks are 2D, so are these convolutions, and they lie one name higher
            step = [f"down.{level}.downsample" + (".conv" if knobs["fine_in_time"] else "")]
            if level < TIME_STEPS if knobs["pool_early"] else level >= levels - 1 - TIME_STEPS:
                step.append(f"down.{level}.time_downsample" if mixed else "")
            (coarse if level >= levels - 1 - TIME_STEPS else fine).extend(step)
    for level in reversed(range(levels)):
        up += [f"up.{level}.block.{i}" for i in range(blocks + 1)]
        if level:
            up.append(f"up.{level}.upsample.conv")
        if level >= levels - TIME_STEPS:
            up.append(f"up.{level}.time_upsample" if mixed else "")
    stages = [
        (rf"^{half}\.{ours}\.{index}\.", f"{half}.{name}.")
        for half, ours, names in (("encoder", "fine", fine), ("encoder", "coarse", coarse), ("decoder", "levels", up))
        for index, name in enumerate(names)
        if name
    ]
    bare = (r"\.time_downsample\.conv\.conv\.", ".time_downsample.conv.")
    # the rest is called as in v1.2
    return [*stages, bare, *odvae.LAYOUT.renames(knobs)]


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


@LAYOUTS.register("causalvae")
def _layout() -> Layout:
    return LAYOUT

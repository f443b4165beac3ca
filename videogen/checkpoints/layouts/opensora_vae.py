"""The autoencoder of Open-Sora 1.2 as its authors published it (VideoAutoencoderPipeline)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, sd

#: what the names of the halves stand for: the config says no more of them
SDXL = {
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
TEMPORAL_SD = {
    "in_out_channels": 4,
    "latent_embed_dim": 4,
    "embed_dim": 4,
    "filters": 128,
    "num_res_blocks": 4,
    "channel_multipliers": (1, 2, 2, 4),
    "temporal_downsample": (False, True, True),
    "num_groups": 32,
    "activation_fn": "swish",
}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return any(key.startswith("temporal_vae.encoder.conv_in.") for key in keys)


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    temporal = config["vae_temporal"]
    if temporal["type"] == "VAE_Temporal_SD":
        temporal = TEMPORAL_SD | temporal
    # the published config names a folder of diffusers' AutoencoderKL; what it says of sizes comes first
    frames = sd.LAYOUT.knobs(SDXL | config.get("vae_2d", {}), keys)
    for key, value in (
        ("activation_fn", "swish"),
        ("latent_embed_dim", temporal["embed_dim"]),
        ("in_out_channels", frames["latent_channels"]),
        ("num_groups", frames["norm_groups"]),
    ):
        if temporal[key] != value:
            raise ValueError(f"vae_temporal has {key}={temporal[key]!r}: only {value!r} is known here")
    # published: (latents - shift) / scale
    return {
        "latent_channels": temporal["embed_dim"],
        "frame_channels": frames["latent_channels"],
        "base_channels": frames["base_channels"],
        "channel_multipliers": frames["channel_multipliers"],
        "num_res_blocks": frames["num_res_blocks"],
        "temporal_channels": temporal["filters"],
        "temporal_multipliers": tuple(temporal["channel_multipliers"]),
        "temporal_downsample": tuple(temporal["temporal_downsample"]),
        "temporal_res_blocks": temporal["num_res_blocks"],
        "norm_groups": temporal["num_groups"],
        "micro_frames": config["micro_frame_size"] or 0,
        "latent_shift": _per_channel(config["shift"], temporal["embed_dim"]),
        "latent_scale": tuple(1 / scale for scale in _per_channel(config["scale"], temporal["embed_dim"])),
    }


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    return tuple(float(one) for one in value) if isinstance(value, (list, tuple)) else (float(value),) * channels


def _stages(levels: int, blocks: int, downsample: tuple[bool, ...]) -> dict[str, list[str]]:
    """The published names of the stages of the half in time, in the order of the forward pass."""
    first = [f"res_blocks.{block}" for block in range(blocks)]
    down: list[str] = []
    up: list[str] = list(first)
    for level in range(levels):
        down += [f"block_res_blocks.{level}.{block}" for block in range(blocks)]
        if level < levels - 1 and downsample[level]:
            down.append(f"conv_blocks.{level}.conv")
    for level in reversed(range(levels)):
        up += [f"block_res_blocks.{level}.{block}" for block in range(blocks)]
        if level and downsample[level - 1]:
            up.append(f"conv_blocks.{level - 1}.conv")
    return {"encoder": down + first, "decoder": up}


def _renames(knobs: Config) -> list[tuple[str, str]]:
    downsample = knobs["temporal_downsample"]
    stages = _stages(len(knobs["temporal_multipliers"]), knobs["temporal_res_blocks"], downsample)
    in_time = [
        *[
            (rf"^temporal\.{half}\.levels\.{index}\.", f"temporal_vae.{half}.{stage}.")
            for half, names in stages.items()
            for index, stage in enumerate(names)
        ],
        (r"^temporal\.", "temporal_vae."),
        (r"^(temporal_vae\..*blocks.*)\.shortcut\.", r"\1.conv3."),
        (r"^(temporal_vae\..*\.conv\d)\.", r"\1.conv."),
        (r"^(temporal_vae\.(en|de)coder)\.norm\.", r"\1.norm1."),
        (r"^temporal_vae\.encoder\.conv_in\.", "temporal_vae.encoder.conv_in.conv."),
        (r"^temporal_vae\.encoder\.out\.", "temporal_vae.encoder.conv2.conv."),
        (r"^temporal_vae\.decoder\.conv_in\.", "temporal_vae.decoder.conv1.conv."),
        (r"^temporal_vae\.decoder\.out\.", "temporal_vae.decoder.conv_out.conv."),
        (r"^temporal_vae\.(quant|post_quant)\.", r"temporal_vae.\1_conv.conv."),
    ]
    frames = sd.LAYOUT.renames({**knobs, "use_attention": True})
    # what is left begins with "encoder." or "decoder.", as in the image autoencoder
    prefixed = (r"^(?!temporal_vae\.)", "spatial_vae.module.")
    return [*in_time, *frames, prefixed]


LAYOUT = Layout(
    kind="vae",
    part="framewise_temporal",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes=sd.LAYOUT.axes,
    # constants that the config says too
    ignored="scale|shift",
)


@LAYOUTS.register("opensora_vae")
def _layout() -> Layout:
    return LAYOUT

"""Mochi's autoencoder, as diffusers stores it (AutoencoderKLMochi)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._mochi import Place, last, places

#: settings of which one value alone is known here; every pixel comes with two waves of each colour
FIXED = {"in_channels": 15, "out_channels": 3, "act_fn": "silu"}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderKLMochi"


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    for name, expected in FIXED.items():
        if config.get(name, expected) != expected:
            raise ValueError(f"{name}={config[name]!r}: only {expected!r} is supported")
    scale = float(config.get("scaling_factor", 1.0))
    return {
        "latent_channels": config["latent_channels"],
        "encoder_widths": tuple(config["encoder_block_out_channels"]),
        "decoder_widths": tuple(config["decoder_block_out_channels"]),
        "num_res_blocks": tuple(config["layers_per_block"]),
        "time_strides": tuple(config["temporal_expansions"]),
        "space_strides": tuple(config["spatial_expansions"]),
        "encoder_attention": tuple(config["add_attention_block"]),
        # neither is told, and there is no other
        "head_dim": 32,
        "norm_groups": 32,
        "latent_shift": tuple(float(mean) for mean in config["latents_mean"]),
        "latent_scale": tuple(scale / float(std) for std in config["latents_std"]),
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        *(pair for place in places(knobs) for pair in _stage(place, last(knobs))),
        (r"\.norm([12])\.", r".norm\1.norm_layer."),
        (r"^encoder\.conv_in\.", "encoder.proj_in."),
        (r"^encoder\.norm\.", "encoder.norm_out.norm_layer."),
        (r"^(encoder|decoder)\.out\.", r"\1.proj_out."),
    ]


def _stage(place: Place, last_group: int) -> list[tuple[str, str]]:
    ours, half, group, number, kind = place
    side = "down" if half == "encoder" else "up"
    names = {0: "block_in", last_group: "block_out"}
    stage = f"{half}.{names.get(group, f'{side}_blocks.{group - 1}')}"
    if kind == "attention":
        return [
            (rf"{ours}norm\.", f"{stage}.norms.{number}.norm_layer."),
            (rf"{ours}qkv\.", f"{stage}.attentions.{number}.{{to_q,to_k,to_v}}."),
            (rf"{ours}out\.", f"{stage}.attentions.{number}.to_out.0."),
        ]
    if kind == "block":
        return [(ours, f"{stage}.resnets.{number}.")]
    # an upsampling is the layer "proj" here and there, a downsampling a convolution that is called "conv_in" there
    return [(ours, f"{stage}.{'conv_in.' if half == 'encoder' else ''}")]


LAYOUT = Layout(
    kind="vae",
    part="mochi",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes={r".*\.(proj|proj_in|proj_out)\.weight": 2},
)


@LAYOUTS.register("mochi")
def _layout() -> Layout:
    return LAYOUT

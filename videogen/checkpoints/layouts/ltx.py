"""LTX-Video's autoencoder, as diffusers stores it (AutoencoderKLLTXVideo).

The mean and deviation of the latents lie among the weights; they are buffers here too, so saving gives them back.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS

#: what a config that doesn't say means
LEVELS = {
    "decoder_block_out_channels": (128, 256, 512, 512),
    "decoder_layers_per_block": (4, 3, 3, 3, 4),
    "decoder_spatio_temporal_scaling": (True, True, True, False),
}
#: settings that must be so
FIXED = {
    "in_channels": 3,
    "out_channels": 3,
    "patch_size_t": 1,
    "resnet_norm_eps": 1e-6,
    "scaling_factor": 1.0,
    "encoder_causal": True,
}

#: how both layouts call the sizes of a block's noise
NOISE = (r"\.noise([12])$", r".per_channel_scale\1")


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderKLLTXVideo"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(f"{name}={config[name]!r} is not implemented: only {value!r} is")
    given = {name: tuple(config.get(name, default)) for name, default in LEVELS.items()}
    widths, doubles = given["decoder_block_out_channels"], given["decoder_spatio_temporal_scaling"]
    factors = tuple(config.get("upsample_factor", (1,) * len(widths)))
    residual = tuple(config.get("upsample_residual", (False,) * len(widths)))
    narrows = {factor > 1 for factor, doubled in zip(factors, doubles, strict=True) if doubled}
    adds = {added for added, doubled in zip(residual, doubles, strict=True) if doubled}
    if len(narrows) > 1 or len(adds) > 1:
        raise ValueError(f"upsample_factor={factors}, upsample_residual={residual}: mixed levels are not implemented")
    noisy = tuple(config.get("decoder_inject_noise", ()))
    return {
        "latent_channels": config["latent_channels"],
        "patch_size": config["patch_size"],
        **_encoder(config),
        "decoder_widths": (*(w // factor for w, factor in zip(widths, factors, strict=True)), widths[-1]),
        "decoder_blocks": given["decoder_layers_per_block"],
        "upsamplers": doubles,
        "upsample_residual": True in adds,
        "upsample_narrows": True in narrows,
        "decoder_causal": config.get("decoder_causal", False),
        "timestep_conditioning": config.get("timestep_conditioning", False),
        "decoder_noise": noisy if any(noisy) else (),
    }


def _encoder(config: Config) -> dict[str, Any]:
    widths, scaled = tuple(config["block_out_channels"]), config["spatio_temporal_scaling"]
    # the later blocks change the width as they leave a level, so theirs is one width more
    if config.get("down_block_types", ("",))[-1] == "LTXVideo095DownBlock3D":
        kinds = config["downsample_type"]
    else:
        widths, kinds = (*widths, widths[-1]), ("conv",) * len(widths)
    levels = len(widths) - 1
    return {
        "encoder_widths": widths,
        "encoder_blocks": tuple(config["layers_per_block"]),
        "downsamplers": tuple(kinds[i] if scaled[i] else "none" for i in range(levels)),
    }


def places(knobs: Config) -> list[tuple[str, str]]:
    """Our levels and changes of resolution, in the order of the forward pass, and their published names."""
    names: list[tuple[str, str]] = []
    widths, kinds = knobs["encoder_widths"], knobs["downsamplers"]
    for level, kind in enumerate(kinds):
        widens = kind in ("none", "conv") and widths[level] != widths[level + 1]
        stages = [*(["downsamplers.0"] if kind != "none" else []), *(["conv_out"] if widens else [])]
        names.append((f"encoder.levels.{level}", f"encoder.down_blocks.{level}"))
        # a level begins here where the one before it is left there
        names += _numbered(f"encoder.levels.{level + 1}.change", f"encoder.down_blocks.{level}", stages)
    names += [(f"encoder.levels.{len(kinds)}", "encoder.mid_block"), ("decoder.levels.0", "decoder.mid_block")]
    widths, doubles = knobs["decoder_widths"][::-1], knobs["upsamplers"][::-1]
    for level, doubled in enumerate(doubles):
        widens = widths[level] != widths[level + 1] and not (doubled and knobs["upsample_narrows"])
        stages = [*(["conv_in"] if widens else []), *(["upsamplers.0"] if doubled else [])]
        names += _numbered(f"decoder.levels.{level + 1}.change", f"decoder.up_blocks.{level}", stages)
        names.append((f"decoder.levels.{level + 1}", f"decoder.up_blocks.{level}"))
    return names


def place_renames(names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A level's changes come before the level that they are in: the longer name first."""
    longest = sorted(names, key=lambda pair: pair[0].count("."), reverse=True)
    return [(f"^{re.escape(ours)}\\.", f"{theirs}.") for ours, theirs in longest]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        *place_renames(places(knobs)),
        (r"\.blocks\.", ".resnets."),
        NOISE,
        (r"\.norm\.", ".norm3."),
        (r"\.shortcut\.", ".conv_shortcut."),
        (r"\.embed\.0\.", ".time_embedder.timestep_embedder.linear_1."),
        (r"\.embed\.2\.", ".time_embedder.timestep_embedder.linear_2."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"^decoder\.time_scale$", "decoder.timestep_scale_multiplier"),
        (r"^latent_", "latents_"),
    ]


def _numbered(ours: str, theirs: str, stages: list[str]) -> list[tuple[str, str]]:
    return [(f"{ours}.{index}", f"{theirs}.{stage}") for index, stage in enumerate(stages)]


LAYOUT = Layout(
    kind="vae",
    part="ltx",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes={r"decoder\.timestep_scale_multiplier": 0, r".*\.per_channel_scale[12]": 3},
)


@LAYOUTS.register("ltx")
def _layout() -> Layout:
    return LAYOUT

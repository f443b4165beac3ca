"""Wan's autoencoders, 2.1 and 2.2, as diffusers stores them (AutoencoderKLWan)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderKLWan"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    patch_size = config.get("patch_size") or 1
    pixels = 3 * patch_size**2
    for name, only in (("attn_scales", []), ("in_channels", pixels), ("out_channels", pixels)):
        value = config.get(name, only)
        if value != only:
            raise ValueError(f"{name}={value!r} with patches of {patch_size} is not implemented: only {only!r} is")
    return {
        "latent_channels": config["z_dim"],
        "base_channels": config["base_dim"],
        "decoder_channels": config.get("decoder_base_dim") or config["base_dim"],
        "channel_multipliers": tuple(config["dim_mult"]),
        "num_res_blocks": config["num_res_blocks"],
        "time_steps": tuple(config["temperal_downsample"]),
        "shortcuts": config.get("is_residual", False),
        "patch_size": patch_size,
        "latent_shift": tuple(float(mean) for mean in config["latents_mean"]),
        "latent_scale": tuple(1 / float(std) for std in config["latents_std"]),
    }


def _encoder(knobs: Config) -> list[tuple[str, str]]:
    """Our layers and the published ones, level by level; 2.1 numbers its layers on through all levels."""
    names, count, passed = [], knobs["num_res_blocks"], 0
    for level in range(len(knobs["channel_multipliers"])):
        here = f"encoder.levels.{level}.layers"
        if knobs["shortcuts"]:
            blocks = [f"encoder.down_blocks.{level}.resnets.{block}" for block in range(count)]
            sampler = f"encoder.down_blocks.{level}.downsampler"
        else:
            blocks = [f"encoder.down_blocks.{passed + block}" for block in range(count)]
            sampler = f"encoder.down_blocks.{passed + count}"
        names += [(f"{here}.{index}", block) for index, block in enumerate(blocks)]
        names += [
            (f"{here}.{count}.conv", f"{sampler}.resample.1"),
            (f"{here}.{count + 1}.conv", f"{sampler}.time_conv"),
        ]
        passed += count + 1
    return names


def _decoder(knobs: Config) -> list[tuple[str, str]]:
    names, count = [], knobs["num_res_blocks"] + 1
    # the finest level has no upsampling
    for level, time in enumerate([*reversed(knobs["time_steps"]), False]):
        here, there = f"decoder.levels.{level}.layers", f"decoder.up_blocks.{level}"
        sampler = f"{there}.upsampler" if knobs["shortcuts"] else f"{there}.upsamplers.0"
        names += [(f"{here}.{block}", f"{there}.resnets.{block}") for block in range(count)]
        names += [(f"{here}.{count}.conv", f"{sampler}.time_conv")] if time else []
        names += [(f"{here}.{count + time}.conv", f"{sampler}.resample.1")]
    return names


def _renames(knobs: Config) -> list[tuple[str, str]]:
    names = _encoder(knobs) + _decoder(knobs)
    return [
        *((rf"^{re.escape(ours)}\.", f"{theirs}.") for ours, theirs in names),
        (r"\.middle\.0\.", ".mid_block.resnets.0."),
        (r"\.middle\.2\.", ".mid_block.resnets.1."),
        (r"\.middle\.1\.qkv\.", ".mid_block.attentions.0.to_qkv."),
        (r"\.middle\.1\.out\.", ".mid_block.attentions.0.proj."),
        (r"\.middle\.1\.norm\.", ".mid_block.attentions.0.norm."),
        (r"\.shortcut\.", ".conv_shortcut."),
        (r"^(encoder|decoder)\.norm\.", r"\1.norm_out."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"\.(norm\w*)\.weight$", r".\1.gamma"),
        (r"^encoder\.quant\.", "quant_conv."),
        (r"^decoder\.quant\.", "post_quant_conv."),
    ]


LAYOUT = Layout(
    kind="vae",
    part="wan",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes={
        r".*\.attentions\.0\.norm\.gamma": 3,
        r".*\.gamma": 4,
        r".*\.attentions\.0\.(to_qkv|proj)\.weight": 4,
        r".*\.resample\.1\.weight": 4,
    },
)


@LAYOUTS.register("wan")
def _layout() -> Layout:
    return LAYOUT

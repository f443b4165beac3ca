"""Wan's autoencoders as its authors published them (Wan2.1_VAE.pth, Wan2.2_VAE.pth)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, wan
from videogen.checkpoints.layouts._shapes import count


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"encoder.middle.0.residual.0.gamma", "decoder.head.0.gamma"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    base, pixels = tensors["encoder.conv1.weight"].shape[:2]
    shortcuts = any(key.startswith("encoder.downsamples.0.downsamples.") for key in tensors)
    layers = _levels(tensors, shortcuts)
    blocks = len(layers[-1])
    multipliers = [_width(tensors, level[0]) // base for level in layers]
    return {
        "latent_channels": tensors["conv2.weight"].shape[0],
        "base_channels": base,
        "decoder_channels": tensors["decoder.head.0.gamma"].shape[0] // multipliers[0],
        "channel_multipliers": tuple(multipliers),
        "num_res_blocks": blocks,
        "time_steps": tuple(f"{level[blocks]}.time_conv.weight" in tensors for level in layers[:-1]),
        "shortcuts": shortcuts,
        "patch_size": math.isqrt(pixels // 3),
    }


def _levels(tensors: Mapping[str, Tensor], shortcuts: bool) -> list[list[str]]:
    """The names of the encoder's layers, level by level: its residual blocks and, but for the last, a downsampler."""
    if shortcuts:
        counts = [
            count(tensors, rf"encoder\.downsamples\.{level}\.downsamples\.(\d+)\.")
            for level in range(count(tensors, r"encoder\.downsamples\.(\d+)\."))
        ]
        return [[f"encoder.downsamples.{i}.downsamples.{j}" for j in range(n)] for i, n in enumerate(counts)]
    levels: list[list[str]] = [[]]
    for index in range(count(tensors, r"encoder\.downsamples\.(\d+)\.")):
        name = f"encoder.downsamples.{index}"
        levels[-1].append(name)
        if f"{name}.resample.1.weight" in tensors:
            levels.append([])
    return levels


def _width(tensors: Mapping[str, Tensor], block: str) -> int:
    return tensors[f"{block}.residual.2.weight"].shape[0]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    count, levels = knobs["num_res_blocks"], len(knobs["channel_multipliers"])
    if knobs["shortcuts"]:
        places = [
            (r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.downsamples.\1.downsamples."),
            (r"^encoder\.down_blocks\.(\d+)\.downsampler\.", rf"encoder.downsamples.\1.downsamples.{count}."),
            (r"^decoder\.up_blocks\.(\d+)\.resnets\.", r"decoder.upsamples.\1.upsamples."),
            (r"^decoder\.up_blocks\.(\d+)\.upsampler\.", rf"decoder.upsamples.\1.upsamples.{count + 1}."),
        ]
    else:
        # one list of all levels' layers; the decoder has a block more and then an upsampler in each
        places = [(r"^encoder\.down_blocks\.", "encoder.downsamples.")]
        for level in range(levels):
            first = level * (count + 2)
            names = [*(f"resnets.{block}" for block in range(count + 1)), "upsamplers.0"]
            places += [
                (rf"^decoder\.up_blocks\.{level}\.{re.escape(name)}\.", f"decoder.upsamples.{first + index}.")
                for index, name in enumerate(names)
            ]
    return [
        *wan.LAYOUT.renames(knobs),
        *places,
        (r"\.mid_block\.resnets\.0\.", ".middle.0."),
        (r"\.mid_block\.attentions\.0\.", ".middle.1."),
        (r"\.mid_block\.resnets\.1\.", ".middle.2."),
        (r"\.norm1\.", ".residual.0."),
        (r"\.conv1\.", ".residual.2."),
        (r"\.norm2\.", ".residual.3."),
        (r"\.conv2\.", ".residual.6."),
        (r"\.conv_shortcut\.", ".shortcut."),
        (r"\.conv_in\.", ".conv1."),
        (r"\.norm_out\.", ".head.0."),
        (r"\.conv_out\.", ".head.2."),
        (r"^quant_conv\.", "conv1."),
        (r"^post_quant_conv\.", "conv2."),
    ]


LAYOUT = Layout(
    kind="vae",
    part="wan",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes={
        r".*\.middle\.1\.norm\.gamma": 3,
        r".*\.gamma": 4,
        r".*\.middle\.1\.(to_qkv|proj)\.weight": 4,
        r".*\.resample\.1\.weight": 4,
    },
    untold=("latent_shift", "latent_scale"),
)


@LAYOUTS.register("wan_original")
def _layout() -> Layout:
    return LAYOUT

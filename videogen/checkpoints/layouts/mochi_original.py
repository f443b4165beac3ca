"""Mochi's autoencoder as its authors published it: encoder.safetensors and decoder.safetensors.

Both files are read where they lie beside each other, and their names begin with the file's; so they do in the one file
that others have made of the two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._mochi import Place, last, places
from videogen.checkpoints.layouts._shapes import GROUPS, count

#: of a head of attention, in the authors' code
HEAD_DIM = 32


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"encoder.layers.1.stack.0.weight", "decoder.blocks.0.0.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    downs = sorted({int(m[1]) for key in tensors if (m := re.match(r"encoder\.layers\.(\d+)\.layers\.", key))})
    strided = [tensors[f"encoder.layers.{index}.layers.0.weight"] for index in downs]
    strides = [tuple(weight.shape[2:4]) for weight in strided]
    projections = [tensors[f"decoder.blocks.{index + 1}.proj.weight"].shape[0] for index in range(len(downs))]
    coarse_first = [
        rows // (time * space**2) for rows, (time, space) in zip(projections, reversed(strides), strict=True)
    ]
    latent, widest = tensors["decoder.blocks.0.0.weight"].shape[1], tensors["decoder.blocks.0.0.weight"].shape[0]
    # the first layer is a projection, and the last group follows the last downsampling
    firsts = ["encoder.layers.1", *(f"encoder.layers.{i}.layers.1" for i in downs), f"encoder.layers.{downs[-1] + 1}"]
    inner = [count(tensors, rf"encoder\.layers\.{index}\.layers\.(\d+)\.stack\.") for index in downs]
    return {
        "latent_channels": latent,
        "encoder_widths": (strided[0].shape[1], *(weight.shape[0] for weight in strided)),
        "decoder_widths": (*reversed(coarse_first), widest),
        "num_res_blocks": (downs[0] - 1, *inner, count(tensors, r"encoder\.layers\.(\d+)\.") - 1 - downs[-1]),
        "time_strides": tuple(time for time, _ in strides),
        "space_strides": tuple(space for _, space in strides),
        "encoder_attention": tuple(f"{first}.attn_block.norm.weight" in tensors for first in firsts),
        "head_dim": HEAD_DIM,
        "norm_groups": GROUPS,
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    pairs = [(place, _name(place, knobs)) for place in places(knobs)]
    return [
        *((place.ours, f"{name}.") for place, name in pairs),
        (r"^(encoder|decoder)(.*\.)norm1\.", r"\1\2stack.0."),
        (r"^(encoder|decoder)(.*\.)conv1\.conv\.", r"\1\2stack.2."),
        (r"^(encoder|decoder)(.*\.)norm2\.", r"\1\2stack.3."),
        (r"^(encoder|decoder)(.*\.)conv2\.conv\.", r"\1\2stack.5."),
        (r"\.attn_block\.(qkv|out)\.", r".attn_block.attn.\1."),
        (r"(\.layers\.\d+\.layers\.0)\.conv\.", r"\1."),
        (r"^encoder\.conv_in\.", "encoder.layers.0."),
        (r"^decoder\.conv_in\.", "decoder.blocks.0.0."),
        (r"^encoder\.norm\.", "encoder.output_norm."),
        (r"^(encoder|decoder)\.out\.", r"\1.output_proj."),
    ]


def _name(place: Place, knobs: Config) -> str:
    _, half, group, number, kind = place
    outer = group in (0, last(knobs))
    if half == "decoder":
        # before the first group's blocks stands the first layer
        within = str(number + (group == 0)) if outer else f"blocks.{number}"
        return f"decoder.blocks.{group}" if kind == "change" else f"decoder.blocks.{group}.{within}"
    first = knobs["num_res_blocks"][0]
    if outer:
        index = 1 + number if group == 0 else first + group + number
        name = f"encoder.layers.{index}"
    else:
        name = f"encoder.layers.{first + group}.layers.{0 if kind == 'change' else 1 + number}"
    return f"{name}.attn_block" if kind == "attention" else name


LAYOUT = Layout(
    kind="vae",
    part="mochi",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes={r"encoder\.layers\.0\.weight|.*\.output_proj\.weight|decoder\.blocks\.\d+\.proj\.weight": 2},
    untold=("latent_shift", "latent_scale"),
)


@LAYOUTS.register("mochi_original")
def _layout() -> Layout:
    return LAYOUT

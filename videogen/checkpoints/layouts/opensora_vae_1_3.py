"""The autoencoder of Open-Sora 1.3 as its authors published it (OpenSoraVAE_V1_3_Pipline)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._diffusers import outer_renames
from videogen.checkpoints.layouts._shapes import ldm_renames, level_config

CONV = ".conv"


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # in other causal autoencoders the decoder's last convolution is called as all others are
    return {"encoder.conv_in.conv.weight", "decoder.conv_out.weight"} <= set(keys) and any(
        ".upsample.conv3d.conv1.conv." in key for key in keys
    )


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    told = level_config(tensors, "down", "block", CONV)
    widths = told["block_out_channels"]
    if any(width % widths[0] for width in widths):
        raise ValueError(f"levels of {widths} channels: each must be a multiple of the first")
    doubled = {int(found[1]) for key in tensors if (found := re.match(r"decoder\.up\.(\d+)\.upsample\.conv3d\.", key))}
    if doubled != {len(widths) - 1, len(widths) - 2}:
        raise ValueError(
            f"time is doubled after levels {sorted(doubled)}: only after the two coarsest it is known here"
        )
    return {
        "latent_channels": told["latent_channels"],
        "base_channels": widths[0],
        "channel_multipliers": tuple(width // widths[0] for width in widths),
        "num_res_blocks": told["layers_per_block"],
        "norm_groups": told["norm_num_groups"],
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    levels, blocks = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    return [
        *_stages(levels, blocks),
        *outer_renames({"use_attention": True}),
        *ldm_renames(levels),
        # a convolution is one in a wrapper that fills up its time, but those of frames alone and the decoder's last
        (r"^((?:en|de)coder\..*(?:conv_in|conv1|conv2|nin_shortcut|proj_out|\{q,k,v\}))\.", r"\1.conv."),
        (r"^encoder\.conv_out\.", "encoder.conv_out.conv."),
        (r"\.norm1\.conv\.", ".norm1."),
    ]


def _stages(levels: int, blocks: int) -> list[tuple[str, str]]:
    down, up = list[str](), list[str]()
    for level in range(levels):
        down += [f"down.{level}.block.{i}" for i in range(blocks)]
        if level < levels - 1:
            # its bare convolution is of frames alone
            down.append(f"down.{level}.downsample" + (2 * CONV if level >= levels - 3 else ""))
    for level in reversed(range(levels)):
        up += [f"up.{level}.block.{i}" for i in range(blocks + 1)]
        if level:
            up.append(f"up.{level}.upsample" + (".conv3d" if level >= levels - 2 else ""))
    return [
        (rf"^{half}\.levels\.{index}\.", f"{half}.{name}.")
        for half, names in (("encoder", down), ("decoder", up))
        for index, name in enumerate(names)
    ]


LAYOUT = Layout(
    kind="vae",
    part="magvit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    untold=("micro_frames", "latent_shift", "latent_scale"),
)


@LAYOUTS.register("opensora_vae_1_3")
def _layout() -> Layout:
    return LAYOUT

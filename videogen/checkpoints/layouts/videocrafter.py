"""The 3D U-Net of VideoCrafter 1 and 2 and of DynamiCrafter as first released, in a file with the whole model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._unet import FIRST_HEADS, numbered_knobs, numbered_renames

FIRST, DOWN = "init_attn.0", "0.op"
#: the second one is DeepSpeed's
PREFIXES = ("model.diffusion_model.", "_forward_module.model.diffusion_model.")


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # DynamiCrafter 256 calls one embedding otherwise
    return "init_attn.0.proj_in.weight" in keys and "framestride_embed.0.weight" not in keys


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return numbered_knobs(tensors, first=FIRST, down=DOWN, heads=FIRST_HEADS)


LAYOUT = Layout(
    kind="denoiser",
    part="unet",
    recognise=_recognise,
    knobs=_knobs,
    renames=lambda knobs: numbered_renames(knobs, first=FIRST, down=DOWN),
    # a convolution of 1 there
    axes={r"init_attn\.0\.proj_(in|out)\.weight": 3},
    prefixes=PREFIXES,
    untold=("default_fps",),
)


@LAYOUTS.register("videocrafter")
def _layout() -> Layout:
    return LAYOUT

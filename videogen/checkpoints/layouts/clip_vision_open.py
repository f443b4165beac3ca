"""CLIP's vision tower as OpenCLIP's and OpenAI's files have it, within the whole CLIP."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._shapes import count


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"class_embedding", "conv1.weight", "ln_pre.weight", "transformer.resblocks.0.attn.in_proj_weight"} <= set(
        keys
    )


def knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tower's tensors tell of it; KeyError where one is missing."""
    width, _, patch, _ = tensors["conv1.weight"].shape
    return {
        "image_size": patch * math.isqrt(len(tensors["positional_embedding"]) - 1),
        "patch_size": patch,
        "width": width,
        "depth": count(tensors, r"transformer\.resblocks\.(\d+)\."),
        "hidden": tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
    }


def renames(knobs: Config) -> list[tuple[str, str]]:
    """Our tower's keys -> OpenCLIP's."""
    return [
        (r"^tower\.whole$", "class_embedding"),
        (r"^tower\.positions$", "positional_embedding"),
        (r"^tower\.patches\.", "conv1."),
        (r"^tower\.norm\.", "ln_pre."),
        (r"^tower\.layers\.(\d+)\.norm([12])\.", r"transformer.resblocks.\1.ln_\2."),
        (r"^tower\.layers\.(\d+)\.qkv\.", r"transformer.resblocks.\1.attn.in_proj_"),
        (r"^tower\.layers\.(\d+)\.out\.", r"transformer.resblocks.\1.attn.out_proj."),
        (r"^tower\.layers\.(\d+)\.expand\.", r"transformer.resblocks.\1.mlp.c_fc."),
        (r"^tower\.layers\.(\d+)\.contract\.", r"transformer.resblocks.\1.mlp.c_proj."),
    ]


#: what makes the pooled vector of the tokens
POOLED = r"ln_post\..*|proj"

LAYOUT = Layout(
    kind="vision",
    part="clip",
    recognise=_recognise,
    knobs=knobs,
    renames=renames,
    ignored=POOLED,
    prefixes=("visual.",),
    untold=("num_heads", "activation"),
)


@LAYOUTS.register("clip_vision_open")
def _layout() -> Layout:
    return LAYOUT

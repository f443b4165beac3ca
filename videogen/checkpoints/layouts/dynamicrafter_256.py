"""The 3D U-Net of DynamiCrafter 256 as first released: VideoCrafter's layout, but for the name of one embedding."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, videocrafter

HERE, THERE = "framestride_embed.", "fps_embedding."


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"init_attn.0.proj_in.weight", f"{HERE}0.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return videocrafter.LAYOUT.knobs(config, {key.replace(HERE, THERE): value for key, value in tensors.items()})


LAYOUT = dataclasses.replace(
    videocrafter.LAYOUT,
    recognise=_recognise,
    knobs=_knobs,
    renames=lambda knobs: [*videocrafter.LAYOUT.renames(knobs), (rf"^{THERE}", HERE)],
)


@LAYOUTS.register("dynamicrafter_256")
def _layout() -> Layout:
    return LAYOUT

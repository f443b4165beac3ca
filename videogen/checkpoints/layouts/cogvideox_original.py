"""CogVideoX's autoencoder as its authors published it (3d-vae.pt)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, cogvideox
from videogen.checkpoints.layouts._shapes import ldm_renames, level_config


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"encoder.down.0.block.0.conv1.conv.weight", "decoder.norm_out.conv_y.conv.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    knobs = cogvideox.LAYOUT.knobs(level_config(tensors, "down", "block", ".conv"), tensors)
    return {key: value for key, value in knobs.items() if key not in LAYOUT.untold}


LAYOUT = Layout(
    kind="vae",
    part="cogvideox",
    recognise=_recognise,
    knobs=_knobs,
    renames=lambda knobs: [*cogvideox.LAYOUT.renames(knobs), *ldm_renames(len(knobs["channel_multipliers"]))],
    ignored=r"loss\..*",
    untold=("latent_scale",),
)


@LAYOUTS.register("cogvideox_original")
def _layout() -> Layout:
    return LAYOUT

"""STDiT3 as Open-Sora 1.3 has it: along time in windows, turned by three axes, with known frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from videogen.checkpoints.layout import Config
from videogen.checkpoints.layouts import LAYOUTS, stdit3
from videogen.checkpoints.layouts._dit import require
from videogen.checkpoints.transforms import Transform, rearranged

#: settings of which one value alone is known here
FIXED = {"use_spatial_rope": True, "skip_temporal": False}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"spatial_blocks.0.attn.qkv.weight", "x_embedder_cond.proj.weight"} <= set(keys)


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    require(config, FIXED)
    rows, columns, frames = config["kernel_size"]
    if frames >= 0 or min(rows, columns) < 1:
        raise ValueError(f"kernel_size={config['kernel_size']} is not implemented: only windows over all frames are")
    knobs = stdit3.LAYOUT.knobs(config, keys)
    nodes = knobs["dit"]
    return {
        **knobs,
        "layers": f"[spatial, windowed(window=(0, {rows}, {columns}))]*{config['depth']}",
        "dit": {
            **nodes,
            "position": {**nodes["position"], "time": "thirds"},
            "cross": {**nodes["cross"], "name": "known_null"},
            "known": {"name": "apart"},
        },
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    known = [(r"^known\.latents\.", "x_embedder_cond.proj."), (r"^known\.mask\.", "x_embedder_cond_mask.proj.")]
    return [*known, *stdit3.LAYOUT.renames(knobs)]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    sizes = dict(zip("thw", knobs["patch_size"], strict=True))
    known = {r"x_embedder_cond(_mask)?\.proj\.weight": rearranged("d c t h w -> d (c t h w)", **sizes)}
    return {**known, **stdit3.LAYOUT.transforms(knobs)}


def _frequencies(knobs: Config) -> dict[str, Tensor]:
    """Those of the rotation by one axis, over a third of a head."""
    channels = knobs["dim"] // knobs["num_heads"] // 3
    return {"rope.freqs": (10000.0 ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)).float()}


LAYOUT = dataclasses.replace(
    stdit3.LAYOUT,
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=_transforms,
    constants=_frequencies,
)


@LAYOUTS.register("stdit3_1_3")
def _layout() -> Any:
    return LAYOUT

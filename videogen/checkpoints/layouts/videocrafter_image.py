"""The image encoder of VideoCrafter1 and DynamiCrafter as first released, in a file with the whole model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, clip_vision_open
from videogen.checkpoints.layouts._shapes import count

TOWER, RESAMPLER = "embedder.model.visual.", "image_proj_model."
#: width of a head of the resampler in every release, which no tensor tells
HEAD_DIM = 64


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {f"{TOWER}class_embedding", f"{RESAMPLER}latents"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    tower = {key.removeprefix(TOWER): value for key, value in tensors.items() if key.startswith(TOWER)}
    inner, inside = tensors[f"{RESAMPLER}layers.0.0.to_q.weight"].shape
    return {
        **clip_vision_open.knobs(config, tower),
        "dim": tensors[f"{RESAMPLER}proj_out.weight"].shape[0],
        "num_queries": tensors[f"{RESAMPLER}latents"].shape[1],
        "inner_dim": inside,
        "inner_depth": count(tensors, rf"{RESAMPLER}layers\.(\d+)\."),
        "inner_heads": inner // HEAD_DIM,
        "inner_head_dim": HEAD_DIM,
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    tower = [(pattern, TOWER + there) for pattern, there in clip_vision_open.renames(knobs)]
    return [
        *tower,
        (r"^resampler\.queries$", f"{RESAMPLER}latents"),
        (r"^resampler\.layers\.(\d+)\.norm_image\.", rf"{RESAMPLER}layers.\1.0.norm1."),
        (r"^resampler\.layers\.(\d+)\.norm\.", rf"{RESAMPLER}layers.\1.0.norm2."),
        (r"^resampler\.layers\.(\d+)\.(q|kv|out)\.", rf"{RESAMPLER}layers.\1.0.to_\2."),
        (r"^resampler\.layers\.(\d+)\.mlp\.", rf"{RESAMPLER}layers.\1.1."),
        (r"^resampler\.", RESAMPLER),
    ]


LAYOUT = Layout(
    kind="vision",
    part="resampler",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    # the rest of the model, and what makes the pooled vector of the tower's tokens
    ignored=rf"(?!{re.escape(TOWER)}|{re.escape(RESAMPLER)}).*|{re.escape(TOWER)}({clip_vision_open.POOLED})",
    # DeepSpeed's
    prefixes=("_forward_module.",),
    untold=("num_heads", "activation"),
)


@LAYOUTS.register("videocrafter_image")
def _layout() -> Layout:
    return LAYOUT

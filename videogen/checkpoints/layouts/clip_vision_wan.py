"""CLIP's vision tower as Wan 2.1's authors published it, within a CLIP whose texts XLM-RoBERTa reads."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._shapes import count
from videogen.checkpoints.transforms import Transform

#: there they are ready to be added to a batch
BATCHED = {
    "cls_embedding": Transform(lambda x: x[0, 0], lambda x: x[None, None]),
    "pos_embedding": Transform(lambda x: x[0], lambda x: x[None]),
}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"cls_embedding", "pos_embedding", "pre_norm.weight", "transformer.0.attn.to_qkv.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    width, _, patch, _ = tensors["patch_embedding.weight"].shape
    return {
        "image_size": patch * math.isqrt(tensors["pos_embedding"].shape[1] - 1),
        "patch_size": patch,
        "width": width,
        "depth": count(tensors, r"transformer\.(\d+)\."),
        "hidden": tensors["transformer.0.mlp.0.weight"].shape[0],
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        (r"^tower\.whole$", "cls_embedding"),
        (r"^tower\.positions$", "pos_embedding"),
        (r"^tower\.patches\.", "patch_embedding."),
        (r"^tower\.norm\.", "pre_norm."),
        (r"^tower\.layers\.", "transformer."),
        (r"\.qkv\.", ".attn.to_qkv."),
        (r"\.out\.", ".attn.proj."),
        (r"\.expand\.", ".mlp.0."),
        (r"\.contract\.", ".mlp.2."),
    ]


LAYOUT = Layout(
    kind="vision",
    part="clip",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=lambda knobs: BATCHED,
    # what makes the pooled vector of the tokens
    ignored=r"post_norm\..*|head",
    prefixes=("visual.",),
    untold=("num_heads", "activation"),
)


@LAYOUTS.register("clip_vision_wan")
def _layout() -> Layout:
    return LAYOUT

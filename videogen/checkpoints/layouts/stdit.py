"""STDiT, the denoiser of Open-Sora 1.0, as its authors published it: one file of tensors, without a config."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._shapes import count
from videogen.checkpoints.layouts._stdit import NODES, RENAMES, stdit_transforms

#: of every release
HEADS = 16
#: the largest denominator of a scale: releases have 1/2, 2/3 and 1
DENOMINATOR = 64


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # Open-Sora 1.1 has another table for time
    return "blocks.0.attn_temp.qkv.weight" in keys and "blocks.0.scale_shift_table_temporal" not in keys


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    patches, depth = tensors["x_embedder.proj.weight"], count(tensors, r"blocks\.(\d+)\.")
    dim, channels, *patch = patches.shape
    out = tensors["final_layer.linear.weight"].shape[0] // math.prod(patch)
    null_tokens, text_dim = tensors["y_embedder.y_embedding"].shape
    space, time = _scale(tensors["pos_embed"], 2), _scale(tensors["pos_embed_temporal"], 1)
    rest = f", stdit*{depth - 1}" if depth > 1 else ""
    return {
        "latent_channels": channels,
        "text_dim": text_dim,
        "dim": dim,
        "num_heads": config.get("num_heads", HEADS),
        "depth": depth,
        "layers": f"[stdit(time_code={time}){rest}]",
        "patch_size": tuple(patch),
        "learned_sigma": out == 2 * channels,
        "null_tokens": null_tokens,
        "dit": {
            "position": {"name": "sincos", "scale": space},
            "time": {"name": "sincos", "scale": 1.0},
            "qk_norm": {"name": "none"},
            **NODES,
        },
    }


def _scale(table: Tensor, axes: int) -> float:
    """What places were divided by when a table (1, N, D) of codes of so many axes was made.

    The second place along the first axis, a column or a frame, has the sine and the cosine of 1 / scale in front of
    each half of that axis's channels.
    """
    if table.shape[1] < 2:
        return 1.0
    sine, cosine = (float(table[0, 1, channel]) for channel in (0, table.shape[2] // axes // 2))
    return float(Fraction(1 / math.atan2(sine, cosine)).limit_denominator(DENOMINATOR))


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=lambda knobs: [(r"\.spatial\.", ".attn."), (r"\.temporal\.", ".attn_temp."), *RENAMES],
    transforms=stdit_transforms,
    # the codes of the places of the trained size, which are computed here
    ignored=r"pos_embed(_temporal)?",
    prefixes=("module.",),
)


@LAYOUTS.register("stdit")
def _layout() -> Layout:
    return LAYOUT

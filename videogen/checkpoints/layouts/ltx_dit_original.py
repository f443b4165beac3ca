"""LTX-Video's transformer as its authors published it, in one file with the autoencoder or alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, ltx_dit
from videogen.checkpoints.layouts._shapes import count

#: heads in every release, which no tensor tells
HEADS = 32


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"patchify_proj.weight", "adaln_single.linear.weight", "transformer_blocks.0.attn1.q_norm.weight"} <= set(
        keys
    )


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    dim, channels = tensors["patchify_proj.weight"].shape
    heads = config.get("num_attention_heads", HEADS)
    told = {
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "in_channels": channels,
        "out_channels": tensors["proj_out.weight"].shape[0],
        "caption_channels": tensors["caption_projection.linear_1.weight"].shape[1],
        "num_layers": count(tensors, r"transformer_blocks\.(\d+)\."),
        "attention_bias": "transformer_blocks.0.attn1.to_q.bias" in tensors,
        "norm_eps": 1e-6,
    }
    return ltx_dit.LAYOUT.knobs(told, tensors)


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        *ltx_dit.LAYOUT.renames(knobs),
        (r"^proj_in\.", "patchify_proj."),
        (r"^time_embed\.", "adaln_single."),
        (r"\.norm_([qk])\.", r".\1_norm."),
    ]


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    prefixes=("model.diffusion_model.",),
)


@LAYOUTS.register("ltx_dit_original")
def _layout() -> Layout:
    return LAYOUT

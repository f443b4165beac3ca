"""Mochi 1's transformer as its authors published it (dit.safetensors)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, mochi_dit
from videogen.checkpoints.layouts._shapes import count
from videogen.checkpoints.transforms import HALVES_SWAPPED, Transform, rearranged


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"pos_frequencies", "t5_y_embedder.to_kv.weight", "blocks.0.mod_x.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    _, channels, patch, _ = tensors["x_embedder.proj.weight"].shape
    _, heads, pairs = tensors["pos_frequencies"].shape
    text_width, text_dim = tensors["t5_yproj.weight"].shape
    told = {
        "patch_size": patch,
        "num_attention_heads": heads,
        "attention_head_dim": 2 * pairs,
        "num_layers": count(tensors, r"blocks\.(\d+)\."),
        "pooled_projection_dim": text_width,
        "in_channels": channels,
        "text_embed_dim": text_dim,
        "time_embed_dim": tensors["t_embedder.mlp.0.weight"].shape[1],
    }
    return mochi_dit.LAYOUT.knobs(told, tensors)


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        (r"\.attention\.text\.qkv\.", ".attn.qkv_y."),
        (r"\.attention\.text\.norm_([qk])\.", r".attn.\1_norm_y."),
        (r"\.attention\.text\.out\.", ".attn.proj_y."),
        (r"\.attention\.qkv\.", ".attn.qkv_x."),
        (r"\.attention\.norm_([qk])\.", r".attn.\1_norm_x."),
        (r"\.attention\.out\.", ".attn.proj_x."),
        (r"\.text_mlp\.inner\.", ".mlp_y.w1."),
        (r"\.text_mlp\.out\.", ".mlp_y.w2."),
        (r"\.mlp\.inner\.", ".mlp_x.w1."),
        (r"\.mlp\.out\.", ".mlp_x.w2."),
        (r"\.text_modulation\.linear\.", ".mod_y."),
        (r"^(blocks\.\d+)\.modulation\.linear\.", r"\1.mod_x."),
        (r"^time\.mlp\.", "t_embedder.mlp."),
        (r"^pooled\.", "t5_y_embedder.to_"),
        (r"^text\.0\.", "t5_yproj."),
        (r"^position\.frequencies$", "pos_frequencies"),
        (r"^embed\.", "x_embedder.proj."),
        (r"^modulation\.linear\.", "final_layer.mod."),
        (r"^out\.", "final_layer.linear."),
    ]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    _, h, w = knobs["patch_size"]
    return {
        r"x_embedder\.proj\.weight": rearranged("d c h w -> d (c h w)", h=h, w=w),
        # gate, then value there
        r"blocks\.\d+\.mlp_[xy]\.w1\.weight": HALVES_SWAPPED,
        r"final_layer\.linear\..*": rearranged("(h w c) ... -> (c h w) ...", h=h, w=w),
    }


LAYOUT = Layout(
    kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames, transforms=_transforms
)


@LAYOUTS.register("mochi_dit_original")
def _layout() -> Layout:
    return LAYOUT

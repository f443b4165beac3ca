"""CLIP's vision tower as transformers stores it (CLIPVisionModel), and diffusers' folders as `image_encoder`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import require

#: settings of which one value alone is known here
FIXED = {"layer_norm_eps": 1e-5, "num_channels": 3}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"embeddings.class_embedding", "embeddings.patch_embedding.weight", "pre_layrnorm.weight"} <= set(keys)


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    # a whole CLIP's config has the tower's inside
    config = config.get("vision_config", config)
    require(config, {key: value for key, value in FIXED.items() if key in config})
    return {
        "image_size": config["image_size"],
        "patch_size": config["patch_size"],
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "hidden": config["intermediate_size"],
        "activation": config["hidden_act"],
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        (r"^tower\.", ""),
        (r"^whole$", "embeddings.class_embedding"),
        (r"^positions$", "embeddings.position_embedding.weight"),
        (r"^patches\.", "embeddings.patch_embedding."),
        (r"^norm\.", "pre_layrnorm."),
        (r"^layers\.", "encoder.layers."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"\.qkv\.", ".self_attn.{q_proj,k_proj,v_proj}."),
        (r"\.out\.", ".self_attn.out_proj."),
        (r"\.expand\.", ".mlp.fc1."),
        (r"\.contract\.", ".mlp.fc2."),
    ]


LAYOUT = Layout(
    kind="vision",
    part="clip",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    # what makes the pooled vector of the tokens, and a counter
    ignored=r"post_layernorm\..*|visual_projection\..*|embeddings\.position_ids",
    prefixes=("vision_model.",),
)


@LAYOUTS.register("clip_vision")
def _layout() -> Layout:
    return LAYOUT

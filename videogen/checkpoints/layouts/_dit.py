"""What the published layouts of DiTs share, where their blocks are made of diffusers' attention layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videogen.checkpoints.layout import Config

#: our attention layers, tables and last layer -> diffusers' names
NAMES = [
    (r"\.attention\.qkv\.", ".attn1.{to_q,to_k,to_v}."),
    (r"\.attention\.out\.", ".attn1.to_out.0."),
    (r"\.attention\.norm_([qk])\.", r".attn1.norm_\1."),
    (r"\.cross\.q\.", ".attn2.to_q."),
    (r"\.cross\.kv\.", ".attn2.{to_k,to_v}."),
    (r"\.cross\.out\.", ".attn2.to_out.0."),
    (r"\.cross\.norm_([qk])\.", r".attn2.norm_\1."),
    (r"^(blocks\.\d+\.)modulation\.table$", r"\1scale_shift_table"),
    (r"^modulation\.table$", "scale_shift_table"),
    (r"^out\.", "proj_out."),
]

#: the class that diffusers calls AdaLayerNormSingle, beside a caption's two layers and an MLP's
PIXART = [
    *NAMES,
    (r"^blocks\.", "transformer_blocks."),
    (r"^(transformer_blocks\.\d+)\.mlp\.0\.", r"\1.ff.net.0.proj."),
    (r"^(transformer_blocks\.\d+)\.mlp\.2\.", r"\1.ff.net.2."),
    (r"^text\.0\.", "caption_projection.linear_1."),
    (r"^text\.2\.", "caption_projection.linear_2."),
]


def time_renames(name: str) -> list[tuple[str, str]]:
    """The names of the timestep's layers, where the layer of all blocks stands among them."""
    return [
        (r"^time\.mlp\.0\.", f"{name}.emb.timestep_embedder.linear_1."),
        (r"^time\.mlp\.2\.", f"{name}.emb.timestep_embedder.linear_2."),
        (r"^shared\.1\.", f"{name}.linear."),
    ]


def require(config: Config, fixed: Mapping[str, Any]) -> None:
    """Raise ValueError unless each setting that the config says has the only value that is implemented."""
    for name, only in fixed.items():
        if config.get(name, only) != only:
            raise ValueError(f"{name}={config[name]!r} is not implemented: only {only!r} is")

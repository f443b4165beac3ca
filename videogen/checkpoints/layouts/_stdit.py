"""What the files of Open-Sora 1.0 to 1.2 have in common: names of layers, and how patches are cut and put together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from videogen.checkpoints.layout import Config
from videogen.checkpoints.transforms import Transform, rearranged

#: the parts of all
NODES: dict[str, dict[str, Any]] = {
    "modulation": {"name": "adaln_single"},
    "norm": {"name": "layer"},
    "mlp": {"name": "gelu"},
    "cross": {"name": "attention", "norm": "none", "qk_norm": False},
    "caption": {"name": "mlp"},
    "pool": {"name": "none"},
}
#: our names of what stands in a block and around the blocks -> theirs, once the blocks are named
RENAMES = [
    (r"(blocks\.\d+)\.modulation\.table$", r"\1.scale_shift_table"),
    (r"\.(attn|attn_temp)\.norm_([qk])\.", r".\1.\2_norm."),
    (r"\.(attn|attn_temp)\.out\.", r".\1.proj."),
    (r"\.cross\.(q|kv)\.", r".cross_attn.\1_linear."),
    (r"\.cross\.out\.", ".cross_attn.proj."),
    (r"(blocks\.\d+)\.mlp\.0\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.mlp\.2\.", r"\1.mlp.fc2."),
    (r"^embed\.", "x_embedder.proj."),
    (r"^time\.mlp\.", "t_embedder.mlp."),
    (r"^shared\.1\.", "t_block.1."),
    (r"^text\.0\.", "y_embedder.y_proj.fc1."),
    (r"^text\.2\.", "y_embedder.y_proj.fc2."),
    (r"^null_text$", "y_embedder.y_embedding"),
    (r"^modulation\.table$", "final_layer.scale_shift_table"),
    (r"^out\.", "final_layer.linear."),
]


def stdit_transforms(knobs: Config) -> dict[str, Transform]:
    """Patches are cut by a convolution there, and put together from rows with the channels innermost."""
    sizes = dict(zip("thw", knobs["patch_size"], strict=True))
    return {
        r"x_embedder\.proj\.weight": rearranged("d c t h w -> d (c t h w)", **sizes),
        r"final_layer\.linear\..*": rearranged("(t h w c) ... -> (c t h w) ...", **sizes),
    }


def frequencies(knobs: Config) -> dict[str, Tensor]:
    """Those of the rotation by time, over a whole head, which 1.1 and 1.2 store."""
    head_dim = knobs["dim"] // knobs["num_heads"]
    return {"rope.freqs": (10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)).float()}

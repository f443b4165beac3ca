"""Mochi 1's transformer, as diffusers stores it (MochiTransformer3DModel)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import require
from videogen.checkpoints.layouts._joint import ATTENTION, two_layers
from videogen.checkpoints.transforms import HALVES_SWAPPED, Transform, rearranged

#: settings of which one value alone is known here
FIXED = {"qk_norm": "rms_norm", "activation_fn": "swiglu"}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "MochiTransformer3DModel"


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    require(config, FIXED)
    heads, depth, channels = config["num_attention_heads"], config["num_layers"], config["in_channels"]
    if (config.get("out_channels") or channels) != channels:
        raise ValueError(f"out_channels={config['out_channels']}: only in_channels={channels} is implemented")
    patch = config["patch_size"]
    return {
        "latent_channels": channels,
        "text_dim": config["text_embed_dim"],
        "dim": heads * config["attention_head_dim"],
        "depth": depth,
        "num_heads": heads,
        "patch_size": (1, patch, patch),
        # nothing is behind the last block that could read the text
        "layers": f"[double*{depth - 1}, double(last=true)]" if depth > 1 else "[double(last=true)]",
        "text_width": config["pooled_projection_dim"],
        "bias": False,
        "norm_out": "layer",
        "dit": {
            "block": {"name": "double"},
            "position": {"name": "learned_rope", "area": 192.0 * 192.0},
            # time there runs from noise, 0, to data, 1000
            "time": {"name": "sincos", "features": config["time_embed_dim"], "scale": -1000.0, "offset": 1000.0},
            "modulation": {"name": "sandwich"},
            "norm": {"name": "rms", "affine": False, "eps": 1e-6},
            "qk_norm": {"name": "rms", "eps": 1e-5},
            "mlp": {"name": "swiglu", "ratio": 8 / 3, "bias": False},
            "caption": {"name": "linear"},
            "pool": {"name": "attention", "num_heads": 8},
        },
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    last, time = knobs["depth"] - 1, "time_embed.timestep_embedder"
    return [
        *((pattern, name.replace(".attn.", ".attn1.")) for pattern, name in ATTENTION),
        (r"\.text_mlp\.inner\.", ".ff_context.net.0.proj."),
        (r"\.text_mlp\.out\.", ".ff_context.net.2."),
        (r"\.mlp\.inner\.", ".ff.net.0.proj."),
        (r"\.mlp\.out\.", ".ff.net.2."),
        (rf"^blocks\.{last}\.text_modulation\.linear\.", f"blocks.{last}.norm1_context.linear_1."),
        (r"\.text_modulation\.", ".norm1_context."),
        (r"^(blocks\.\d+)\.modulation\.", r"\1.norm1."),
        (r"^blocks\.", "transformer_blocks."),
        *two_layers(r"time\.mlp", f"{time}.linear_1", f"{time}.linear_2"),
        (r"^pooled\.", "time_embed.pooler.to_"),
        (r"^text\.0\.", "time_embed.caption_proj."),
        (r"^position\.frequencies$", "pos_frequencies"),
        (r"^embed\.", "patch_embed.proj."),
        (r"^modulation\.", "norm_out."),
        (r"^out\.", "proj_out."),
    ]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    _, h, w = knobs["patch_size"]
    return {
        r"patch_embed\.proj\.weight": rearranged("d c h w -> d (c h w)", h=h, w=w),
        # scale, then shift there
        r"norm_out\.linear\..*": HALVES_SWAPPED,
        r"proj_out\..*": rearranged("(h w c) ... -> (c h w) ...", h=h, w=w),
    }


LAYOUT = Layout(
    kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames, transforms=_transforms
)


@LAYOUTS.register("mochi_dit")
def _layout() -> Layout:
    return LAYOUT

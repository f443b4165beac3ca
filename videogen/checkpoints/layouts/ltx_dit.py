"""LTX-Video's transformer, as diffusers stores it (LTXVideoTransformer3DModel)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import PIXART, require, time_renames

#: settings that must be so
FIXED = {
    "patch_size": 1,
    "patch_size_t": 1,
    "activation_fn": "gelu-approximate",
    "qk_norm": "rms_norm_across_heads",
    "norm_elementwise_affine": False,
    "attention_out_bias": True,
}
#: of queries and keys, in the class's code
QK_EPS = 1e-5


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "LTXVideoTransformer3DModel"


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    channels = config["in_channels"]
    require(config, {**FIXED, "cross_attention_dim": dim})
    if config.get("out_channels") not in (None, channels):
        raise ValueError(f"out_channels={config['out_channels']} is not implemented: only {channels}, as many as in")
    return {
        "latent_channels": channels,
        "text_dim": config["caption_channels"],
        "dim": dim,
        "depth": config["num_layers"],
        "num_heads": config["num_attention_heads"],
        "patch_size": (1, 1, 1),
        "bias": config.get("attention_bias", True),
        "norm_out": "layer",
        "dit": {
            "block": {"name": "full3d"},
            "position": {"name": "fractional", "precision": "float32"},
            # times there run from 0 to 1000
            "time": {"name": "sincos", "features": 256, "scale": 1000.0},
            "modulation": {"name": "adaln_single"},
            "norm": {"name": "rms", "eps": config["norm_eps"]},
            "qk_norm": {"name": "rms_heads", "eps": QK_EPS},
            "mlp": {"name": "gelu", "ratio": 4.0},
            "cross": {"name": "attention", "norm": "none"},
            "caption": {"name": "mlp"},
            "pool": {"name": "none"},
        },
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [*PIXART, *time_renames("time_embed"), (r"^embed\.", "proj_in.")]


LAYOUT = Layout(kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames)


@LAYOUTS.register("ltx_dit")
def _layout() -> Layout:
    return LAYOUT

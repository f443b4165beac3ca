"""Allegro's transformer, as diffusers and its authors store it (AllegroTransformer3DModel)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import PIXART, require, time_renames
from videogen.checkpoints.transforms import Transform, rearranged

#: settings that must be so
FIXED = {"patch_size_t": 1, "activation_fn": "gelu-approximate", "norm_elementwise_affine": False}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AllegroTransformer3DModel"


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    head_dim, channels = config["attention_head_dim"], config["in_channels"]
    dim = config["num_attention_heads"] * head_dim
    require(config, {**FIXED, "cross_attention_dim": dim, "out_channels": channels})
    third, patch = head_dim // 3, config["patch_size"]
    return {
        "latent_channels": channels,
        "text_dim": config["caption_channels"],
        "dim": dim,
        "depth": config["num_layers"],
        "num_heads": config["num_attention_heads"],
        "patch_size": (1, patch, patch),
        "bias": config["attention_bias"],
        "dit": {
            "block": {"name": "full3d"},
            "time": {"name": "sincos", "features": 256, "scale": 1.0},
            "position": {
                "name": "rope",
                "split": (third, third, third),
                "pairs": "axis_half",
                "scale": tuple(float(config[f"interpolation_scale_{axis}"]) for axis in "thw"),
            },
            "modulation": {"name": "adaln_single"},
            "norm": {"name": "layer", "eps": config["norm_eps"]},
            "qk_norm": {"name": "none"},
            "mlp": {"name": "gelu", "ratio": 4.0},
            "cross": {"name": "attention", "norm": "none"},
            "caption": {"name": "mlp"},
            "pool": {"name": "none"},
        },
        # the last norm doesn't go by the config there
        **({} if config["norm_eps"] == 1e-6 else {"norm_out": "layer"}),
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [*PIXART, *time_renames("adaln_single"), (r"^embed\.", "pos_embed.proj.")]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    _, h, w = knobs["patch_size"]
    return {
        r"pos_embed\.proj\.weight": rearranged("d c h w -> d (c h w)", h=h, w=w),
        r"proj_out\.(weight|bias)": rearranged("(h w c) ... -> (c h w) ...", h=h, w=w),
    }


LAYOUT = Layout(
    kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames, transforms=_transforms
)


@LAYOUTS.register("allegro_dit")
def _layout() -> Layout:
    return LAYOUT

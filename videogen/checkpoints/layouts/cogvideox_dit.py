"""CogVideoX's transformers, 1.0 and 1.5, as diffusers stores them (CogVideoXTransformer3DModel)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import NAMES, require
from videogen.checkpoints.layouts._joint import MLP
from videogen.checkpoints.transforms import Transform, rearranged

#: settings of which one value alone is known here
FIXED = {
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    # of the models that start from an image
    "ofs_embed_dim": None,
    "use_learned_positional_embeddings": False,
}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "CogVideoXTransformer3DModel"


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    require(config, FIXED)
    head_dim, heads = config["attention_head_dim"], config["num_attention_heads"]
    channels, patch = config["out_channels"], config["patch_size"]
    frames = config.get("patch_size_t")
    if config["in_channels"] not in (channels, 2 * channels):
        raise ValueError(f"in_channels={config['in_channels']}: as many as out_channels={channels}, or twice as many")
    if frames is None and not config.get("patch_bias", True):
        raise ValueError("patch_bias=False is not implemented: only True is")
    return {
        "latent_channels": channels,
        "text_dim": config["text_embed_dim"],
        "dim": heads * head_dim,
        "depth": config["num_layers"],
        "num_heads": heads,
        "patch_size": (frames or 1, patch, patch),
        "bias": config["attention_bias"],
        "final_norm": True,
        "dit": {
            "block": {"name": "expert"},
            "position": _position(config, head_dim, frames),
            # times there are steps of 0 to 999, as they are here
            "time": {"name": "sincos", "dim": config["time_embed_dim"], "features": heads * head_dim, "scale": 1.0},
            "modulation": {"name": "adaln_zero"},
            "norm": {"name": "layer", "affine": config["norm_elementwise_affine"], "eps": config["norm_eps"]},
            "qk_norm": {"name": "layer", "eps": 1e-6},
            "mlp": {"name": "gelu", "ratio": 4.0, "approximate": "tanh"},
            "caption": {"name": "linear"},
            "pool": {"name": "none"},
            "known": {"name": "concat" if config["in_channels"] > channels else "none"},
        },
    }


def _position(config: Config, head_dim: int, patch_frames: int | None) -> dict[str, Any]:
    if not config["use_rotary_positional_embeddings"]:
        space, time = float(config["spatial_interpolation_scale"]), float(config["temporal_interpolation_scale"])
        return {"name": "sincos_3d", "scale": (time, space, space)}
    split = head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3
    # 1.0 squeezes every grid into the one that it was trained on; 1.5 counts
    trained = tuple(config[f"sample_{side}"] // config["patch_size"] for side in ("height", "width"))
    fit = {"fit": trained} if patch_frames is None else {}
    return {"name": "rope", "split": split, "pairs": "interleaved", **fit}


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        *NAMES,
        *MLP,
        (r"^blocks\.", "transformer_blocks."),
        (r"\.modulation\.linear\.", ".{norm1,norm2}.linear."),
        (r"\.modulation\.norms\.0\.", ".norm1.norm."),
        (r"\.modulation\.norms\.1\.", ".norm2.norm."),
        (r"^modulation\.", "norm_out."),
        (r"^norm\.", "norm_final."),
        (r"^embed\.", "patch_embed.proj."),
        (r"^text\.0\.", "patch_embed.text_proj."),
        (r"^time\.mlp\.0\.", "time_embedding.linear_1."),
        (r"^time\.mlp\.2\.", "time_embedding.linear_2."),
    ]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    frames, rows, columns = knobs["patch_size"]
    # a patch of one frame is cut by a convolution, which the first version has
    return {} if frames > 1 else {r"patch_embed\.proj\.weight": rearranged("d c h w -> d (c h w)", h=rows, w=columns)}


LAYOUT = Layout(
    kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames, transforms=_transforms
)


@LAYOUTS.register("cogvideox_dit")
def _layout() -> Layout:
    return LAYOUT

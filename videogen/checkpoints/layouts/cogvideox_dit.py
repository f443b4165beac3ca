"""CogVideoX's transformers, 1.0 and 1.5, as diffusers stores them (CogVideoXTransformer3DModel)."""

from __future__ import annotations

import math
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
}
#: what the pipeline of CogVideoX1.5-5B-I2V, the only release with such an embedding, always tells it
OFS = 2.0
#: its known latents are divided by the 0.7 that the noisy ones are multiplied with (`invert_scale_latents` of its VAE)
KNOWN_SCALE = 0.7**-2


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
    width, ofs = config["time_embed_dim"], config.get("ofs_embed_dim")
    if ofs not in (None, width):
        raise ValueError(f"ofs_embed_dim={ofs} is added to time_embed_dim={width}: both must be the same")
    time = {"name": "sincos", "dim": width, "features": heads * head_dim, "scale": 1.0}
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
            "time": time if ofs is None else {**time, "constant": OFS},
            "modulation": {"name": "adaln_zero"},
            "norm": {"name": "layer", "affine": config["norm_elementwise_affine"], "eps": config["norm_eps"]},
            "qk_norm": {"name": "layer", "eps": 1e-6},
            "mlp": {"name": "gelu", "ratio": 4.0, "approximate": "tanh"},
            "caption": {"name": "linear", "places": config["max_text_seq_length"] if _learned(config) else 0},
            "pool": {"name": "none"},
            "known": _known(config["in_channels"], channels, ofs is not None),
        },
    }


def _known(channels_in: int, channels: int, divided: bool) -> dict[str, Any]:
    if channels_in == channels:
        return {"name": "none"}
    return {"name": "concat", "scale": KNOWN_SCALE if divided else 1.0}


def _position(config: Config, head_dim: int, patch_frames: int | None) -> dict[str, Any]:
    if not config["use_rotary_positional_embeddings"]:
        space, time = float(config["spatial_interpolation_scale"]), float(config["temporal_interpolation_scale"])
        return {"name": "sincos_3d", "scale": (time, space, space)}
    split = head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3
    # 1.0 squeezes every grid into the one that it was trained on; 1.5 counts
    trained = tuple(config[f"sample_{side}"] // config["patch_size"] for side in ("height", "width"))
    fit = {"fit": trained} if patch_frames is None else {}
    if _learned(config):
        length = (config["sample_frames"] - 1) // config["temporal_compression_ratio"] + 1
        fit["learned"] = (length // (patch_frames or 1), *trained)
    return {"name": "rope", "split": split, "pairs": "interleaved", **fit}


def _learned(config: Config) -> bool:
    return bool(config.get("use_learned_positional_embeddings", False))


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
        (r"^time\.constant\.mlp\.0\.", "ofs_embedding.linear_1."),
        (r"^time\.constant\.mlp\.2\.", "ofs_embedding.linear_2."),
        *_places(knobs["dit"]),
    ]


def _places(nodes: Config) -> list[tuple[str, str]]:
    """The codes of the text's places and of the video's, which are one table there."""
    words, grid = nodes["caption"].get("places", 0), nodes["position"].get("learned")
    if not grid:
        return []
    table, end = "patch_embed.pos_embedding", words + math.prod(grid)
    return [
        (r"^text\.codes$", f"{table}[columns 0:{words}]"),
        (r"^position\.codes$", f"{table}[columns {words}:{end}]"),
    ]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    frames, rows, columns = knobs["patch_size"]
    # a patch of one frame is cut by a convolution, which the first version has
    codes = {r"patch_embed\.pos_embedding.*": rearranged("1 n d -> n d")}
    if frames > 1:
        return codes
    return {**codes, r"patch_embed\.proj\.weight": rearranged("d c h w -> d (c h w)", h=rows, w=columns)}


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=_transforms,
)


@LAYOUTS.register("cogvideox_dit")
def _layout() -> Layout:
    return LAYOUT

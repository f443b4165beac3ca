"""Transformers whose tensors are named as diffusers names PixArt's: Latte and Open-Sora-Plan, up to its v1.3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from videogen.checkpoints.layout import Config
from videogen.checkpoints.transforms import Transform, rearranged

#: settings that one value is implemented of, where a config tells them at all
SETTLED: dict[str, Any] = {
    "activation_fn": "gelu-approximate",
    "norm_type": "ada_norm_single",
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "num_vector_embeds": None,
    "use_linear_projection": False,
    "only_cross_attention": False,
    "double_self_attention": False,
    "attention_type": "default",
    "patch_size_t": 1,
    "downsampler": None,
    "compress_kv_factor": 1,
}


def pixart_knobs(config: Config) -> dict[str, Any]:
    """What all these families' configs tell in the same words; its `dit` lacks the position.

    Raises:
        ValueError: a setting that isn't implemented; its value and the one that is are named.
    """
    for key, value in SETTLED.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key}={config[key]!r}: only {value!r} is known here")
    heads, channels = config["num_attention_heads"], config["in_channels"]
    dim, out = heads * config["attention_head_dim"], config["out_channels"] or channels
    if config["cross_attention_dim"] != dim:
        raise ValueError(f"cross_attention_dim={config['cross_attention_dim']} differs from the width {dim}")
    if out not in (channels, 2 * channels):
        raise ValueError(f"out_channels={out}: only {channels}, or {2 * channels} with a learned sigma, are known here")
    return {
        "latent_channels": channels,
        "text_dim": config["caption_channels"],
        "dim": dim,
        "num_heads": heads,
        "patch_size": (1, config["patch_size"], config["patch_size"]),
        "learned_sigma": out == 2 * channels,
        "bias": config["attention_bias"],
        "dit": {
            "time": {"name": "sincos", "scale": 1.0},
            "modulation": {"name": "adaln_single"},
            "norm": {"name": "layer"},
            "qk_norm": {"name": "none"},
            "mlp": {"name": "gelu"},
            "cross": {"name": "attention", "norm": "none"},
            "caption": {"name": "mlp"},
            "pool": {"name": "none"},
        },
    }


def pixart_renames(blocks: Iterable[str]) -> list[tuple[str, str]]:
    """Our names -> theirs; `blocks` are the published names of the layers in the order of the forward pass."""
    return [
        *((rf"^blocks\.{index}\.", f"{name}.") for index, name in enumerate(blocks)),
        (r"(blocks\.\d+)\.modulation\.table$", r"\1.scale_shift_table"),
        (r"\.attention\.qkv\.", ".attn1.{to_q,to_k,to_v}."),
        (r"\.attention\.out\.", ".attn1.to_out.0."),
        (r"\.cross\.q\.", ".attn2.to_q."),
        (r"\.cross\.kv\.", ".attn2.{to_k,to_v}."),
        (r"\.cross\.out\.", ".attn2.to_out.0."),
        (r"(blocks\.\d+)\.mlp\.0\.", r"\1.ff.net.0.proj."),
        (r"(blocks\.\d+)\.mlp\.2\.", r"\1.ff.net.2."),
        (r"^embed\.", "pos_embed.proj."),
        (r"^time\.mlp\.0\.", "adaln_single.emb.timestep_embedder.linear_1."),
        (r"^time\.mlp\.2\.", "adaln_single.emb.timestep_embedder.linear_2."),
        (r"^shared\.1\.", "adaln_single.linear."),
        (r"^text\.0\.", "caption_projection.linear_1."),
        (r"^text\.2\.", "caption_projection.linear_2."),
        (r"^modulation\.table$", "scale_shift_table"),
        (r"^out\.", "proj_out."),
    ]


def pixart_transforms(knobs: Config) -> dict[str, Transform]:
    """Patches are cut by a convolution there, and put together from rows with the channels innermost."""
    _, height, width = knobs["patch_size"]
    return {
        r"pos_embed.*\.proj\.weight": rearranged("d c h w -> d (c h w)", h=height, w=width),
        r"proj_out\..*": rearranged("(h w c) ... -> (c h w) ...", h=height, w=width),
    }

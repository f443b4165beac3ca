"""Wan's transformers, 2.1 and 2.2, as diffusers stores them (WanTransformer3DModel)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import NAMES, require
from videogen.checkpoints.transforms import Transform, rearranged

#: settings that must be so; the published class takes others of `qk_norm` too, and does the same
FIXED = {"qk_norm": "rms_norm_across_heads", "eps": 1e-6}
#: tokens that its text is filled up to, which no config says
TEXT_TOKENS = 512


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "WanTransformer3DModel"


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    require(config, FIXED)
    head_dim, heads = config["attention_head_dim"], config["num_attention_heads"]
    image_dim, added = config.get("image_dim"), config.get("added_kv_proj_dim")
    if (image_dim is None) != (added is None) or added not in (None, heads * head_dim):
        raise ValueError(
            f"image_dim={image_dim} and added_kv_proj_dim={added}: give both, the second {heads * head_dim}, or neither"
        )
    space = 2 * (head_dim // 6)
    norm = "layer" if config["cross_attn_norm"] else "none"
    return {
        "latent_channels": config["out_channels"],
        "text_dim": config["text_dim"],
        "dim": heads * head_dim,
        "depth": config["num_layers"],
        "num_heads": heads,
        "patch_size": tuple(config["patch_size"]),
        "text_tokens": TEXT_TOKENS,
        "dit": {
            "block": {"name": "full3d"},
            "position": {"name": "rope", "split": (head_dim - 2 * space, space, space), "pairs": "interleaved"},
            # times there run from 0 to 1000
            "time": {"name": "sincos", "features": config["freq_dim"], "scale": 1000.0},
            "modulation": {"name": "adaln_single"},
            "norm": {"name": "layer", "eps": FIXED["eps"]},
            "qk_norm": {"name": "rms_heads", "eps": FIXED["eps"]},
            "mlp": {"name": "gelu", "hidden": config["ffn_dim"]},
            "cross": {"name": "decoupled" if added else "attention", "norm": norm},
            "caption": {"name": "mlp"},
            "pool": {"name": "none"},
            "image_tokens": _image_tokens(image_dim, config.get("pos_embed_seq_len")),
            "known": _known(config["in_channels"], config["out_channels"]),
        },
    }


def _known(channels_in: int, channels: int) -> dict[str, Any]:
    """Beside the noisy latents: none, or a mask and the known latents."""
    if channels_in != channels and channels_in < 2 * channels:
        raise ValueError(f"in_channels={channels_in} are neither {channels} nor a mask and twice as many or more")
    if channels_in == channels:
        return {"name": "none"}
    return {"name": "concat", "mask_channels": channels_in - 2 * channels}


def _image_tokens(image_dim: int | None, positions: int | None) -> dict[str, Any]:
    return {"name": "mlp", "image_dim": image_dim, "positions": positions or 0} if image_dim else {"name": "none"}


def _renames(knobs: Config) -> list[tuple[str, str]]:
    inputs, image = "condition_embedder", "condition_embedder.image_embedder"
    return [
        *NAMES,
        (r"\.cross\.norm\.", ".norm2."),
        (r"\.cross\.image_kv\.", ".attn2.{add_k_proj,add_v_proj}."),
        (r"\.cross\.norm_image_k\.", ".attn2.norm_added_k."),
        (r"^(blocks\.\d+)\.mlp\.0\.", r"\1.ffn.net.0.proj."),
        (r"^(blocks\.\d+)\.mlp\.2\.", r"\1.ffn.net.2."),
        (r"^embed\.", "patch_embedding."),
        (r"^time\.mlp\.0\.", f"{inputs}.time_embedder.linear_1."),
        (r"^time\.mlp\.2\.", f"{inputs}.time_embedder.linear_2."),
        (r"^shared\.1\.", f"{inputs}.time_proj."),
        (r"^text\.0\.", f"{inputs}.text_embedder.linear_1."),
        (r"^text\.2\.", f"{inputs}.text_embedder.linear_2."),
        (r"^image\.positions$", f"{image}.pos_embed"),
        (r"^image\.layers\.0\.", f"{image}.norm1."),
        (r"^image\.layers\.1\.", f"{image}.ff.net.0.proj."),
        (r"^image\.layers\.3\.", f"{image}.ff.net.2."),
        (r"^image\.layers\.4\.", f"{image}.norm2."),
    ]


def patches(knobs: Config, embed: str, out: str, tables: str) -> Mapping[str, Transform]:
    """The changes of what stands around the blocks, given patterns of the published keys.

    Args:
        embed: of the convolution that cuts patches.
        out: of the last layer, whose rows have the channels innermost.
        tables: of tensors with a first axis of 1.
    """
    t, h, w = knobs["patch_size"]
    return {
        embed: rearranged("d c t h w -> d (c t h w)", t=t, h=h, w=w),
        out: rearranged("(t h w c) ... -> (c t h w) ...", t=t, h=h, w=w, c=knobs["latent_channels"]),
        tables: rearranged("1 rows d -> rows d"),
    }


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    tables = r"(blocks\.\d+\.)?scale_shift_table|.*\.pos_embed"
    return patches(knobs, r"patch_embedding\.weight", r"proj_out\.(weight|bias)", tables)


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=_transforms,
    # left over in some files of the first release, of a norm that nothing ever used
    ignored=r"blocks\.\d+\.attn2\.norm_added_q\.weight",
)


@LAYOUTS.register("wan_dit")
def _layout() -> Layout:
    return LAYOUT

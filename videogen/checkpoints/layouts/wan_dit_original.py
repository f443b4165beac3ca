"""Wan's transformers as their authors published them (WanModel), and as single files of other programs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, wan_dit
from videogen.checkpoints.layouts._shapes import count
from videogen.checkpoints.transforms import Transform

#: channels of a head in every release; their config.json says the number of heads
HEAD_DIM = 128


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"patch_embedding.weight", "head.modulation", "blocks.0.self_attn.norm_q.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    dim, channels_in, *patch = tensors["patch_embedding.weight"].shape
    heads = config.get("num_heads", dim // HEAD_DIM)
    image, positions = tensors.get("img_emb.proj.0.weight"), tensors.get("img_emb.emb_pos")
    told = {
        "num_attention_heads": heads,
        "attention_head_dim": dim // heads,
        "in_channels": channels_in,
        "out_channels": tensors["head.head.weight"].shape[0] // math.prod(patch),
        "patch_size": patch,
        "text_dim": tensors["text_embedding.0.weight"].shape[1],
        "freq_dim": tensors["time_embedding.0.weight"].shape[1],
        "ffn_dim": tensors["blocks.0.ffn.0.weight"].shape[0],
        "num_layers": count(tensors, r"blocks\.(\d+)\."),
        "cross_attn_norm": "blocks.0.norm3.weight" in tensors,
        "image_dim": None if image is None else image.shape[0],
        "added_kv_proj_dim": dim if "blocks.0.cross_attn.k_img.weight" in tensors else None,
        "pos_embed_seq_len": None if positions is None else positions.shape[1],
        "eps": config.get("eps", wan_dit.FIXED["eps"]),
    }
    return wan_dit.LAYOUT.knobs(told, tensors)


def _renames(knobs: Config) -> list[tuple[str, str]]:
    image = r"^condition_embedder\.image_embedder\."
    return [
        *wan_dit.LAYOUT.renames(knobs),
        (r"\.attn1\.", ".self_attn."),
        (r"\.attn2\.", ".cross_attn."),
        (r"\.\{to_q,to_k,to_v\}\.", ".{q,k,v}."),
        (r"\.\{to_k,to_v\}\.", ".{k,v}."),
        (r"\.\{add_k_proj,add_v_proj\}\.", ".{k_img,v_img}."),
        (r"\.norm_added_k\.", ".norm_k_img."),
        (r"\.to_q\.", ".q."),
        (r"\.to_out\.0\.", ".o."),
        (r"^(blocks\.\d+)\.norm2\.", r"\1.norm3."),
        (r"^(blocks\.\d+\.ffn)\.net\.0\.proj\.", r"\1.0."),
        (r"^(blocks\.\d+\.ffn)\.net\.2\.", r"\1.2."),
        (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
        (r"^scale_shift_table$", "head.modulation"),
        (r"^proj_out\.", "head.head."),
        (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
        (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
        (r"^condition_embedder\.time_proj\.", "time_projection.1."),
        (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
        (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
        (f"{image}pos_embed$", "img_emb.emb_pos"),
        (rf"{image}norm1\.", "img_emb.proj.0."),
        (rf"{image}ff\.net\.0\.proj\.", "img_emb.proj.1."),
        (rf"{image}ff\.net\.2\.", "img_emb.proj.3."),
        (rf"{image}norm2\.", "img_emb.proj.4."),
    ]


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    tables = r"(blocks\.\d+|head)\.modulation|img_emb\.emb_pos"
    return wan_dit.patches(knobs, r"patch_embedding\.weight", r"head\.head\.(weight|bias)", tables)


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=_transforms,
    ignored=r"blocks\.\d+\.cross_attn\.norm_q_img\.weight",
    prefixes=("model.diffusion_model.",),
)


@LAYOUTS.register("wan_dit_original")
def _layout() -> Layout:
    return LAYOUT

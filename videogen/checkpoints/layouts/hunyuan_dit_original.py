"""HunyuanVideo's transformer as its authors published it (mp_rank_00_model_states.pt)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, hunyuan_dit
from videogen.checkpoints.layouts._joint import renumbered, single_in, single_out, two_layers
from videogen.checkpoints.layouts._shapes import count

#: what no tensor tells: of the release
ROPE: Mapping[str, Any] = {"rope_axes_dim": (16, 56, 56), "rope_theta": 256.0}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"double_blocks.0.img_mod.linear.weight", "txt_in.input_embedder.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    dim, channels_in, patch_frames, patch, _ = tensors["img_in.proj.weight"].shape
    head_dim = tensors["double_blocks.0.img_attn_q_norm.weight"].shape[0]
    if head_dim != sum(ROPE["rope_axes_dim"]):
        raise ValueError(f"heads of {head_dim} channels: the positions of 128 alone are known, {ROPE['rope_axes_dim']}")
    channels = tensors["final_layer.linear.weight"].shape[0] // (patch_frames * patch * patch)
    told = {
        **ROPE,
        "in_channels": channels_in,
        "out_channels": channels,
        "num_attention_heads": dim // head_dim,
        "attention_head_dim": head_dim,
        "num_layers": count(tensors, r"double_blocks\.(\d+)\."),
        "num_single_layers": count(tensors, r"single_blocks\.(\d+)\."),
        "num_refiner_layers": count(tensors, r"txt_in\.individual_token_refiner\.blocks\.(\d+)\."),
        "mlp_ratio": tensors["double_blocks.0.img_mlp.fc1.weight"].shape[0] / dim,
        "patch_size": patch,
        "patch_size_t": patch_frames,
        "guidance_embeds": "guidance_in.mlp.0.weight" in tensors,
        "text_embed_dim": tensors["txt_in.input_embedder.weight"].shape[1],
        "pooled_projection_dim": tensors["vector_in.in_layer.weight"].shape[1],
        "image_condition_type": None if channels_in == channels else "latent_concat",
    }
    return hunyuan_dit.LAYOUT.knobs(told, tensors)


def _renames(knobs: Config) -> list[tuple[str, str]]:
    single, refined = r"single_blocks\.\d+", r"^text\.blocks\.(\d+)"
    block = r"txt_in.individual_token_refiner.blocks.\1"
    return [
        *renumbered(knobs, double="double_blocks", single="single_blocks"),
        *single_out(knobs, single, "linear2"),
        *single_in(knobs, single, "linear1"),
        (rf"^({single})\.attention\.norm_([qk])\.", r"\1.\2_norm."),
        (r"\.attention\.text\.qkv\.", ".txt_attn_qkv."),
        (r"\.attention\.text\.norm_([qk])\.", r".txt_attn_\1_norm."),
        (r"\.attention\.text\.out\.", ".txt_attn_proj."),
        (r"\.attention\.qkv\.", ".img_attn_qkv."),
        (r"\.attention\.norm_([qk])\.", r".img_attn_\1_norm."),
        (r"\.attention\.out\.", ".img_attn_proj."),
        (r"^(double_blocks\.\d+)\.modulation\.", r"\1.img_mod."),
        (r"^(double_blocks\.\d+)\.text_modulation\.", r"\1.txt_mod."),
        (r"\.text_mlp\.0\.", ".txt_mlp.fc1."),
        (r"\.text_mlp\.2\.", ".txt_mlp.fc2."),
        (r"^(double_blocks\.\d+)\.mlp\.0\.", r"\1.img_mlp.fc1."),
        (r"^(double_blocks\.\d+)\.mlp\.2\.", r"\1.img_mlp.fc2."),
        (rf"{refined}\.qkv\.", rf"{block}.self_attn_qkv."),
        (rf"{refined}\.out\.", rf"{block}.self_attn_proj."),
        (rf"{refined}\.norm_attention\.", rf"{block}.norm1."),
        (rf"{refined}\.norm_mlp\.", rf"{block}.norm2."),
        (rf"{refined}\.gates\.", rf"{block}.adaLN_modulation.1."),
        (rf"{refined}\.mlp\.0\.", rf"{block}.mlp.fc1."),
        (rf"{refined}\.mlp\.2\.", rf"{block}.mlp.fc2."),
        (r"^text\.proj\.", "txt_in.input_embedder."),
        (r"^text\.time\.", "txt_in.t_embedder."),
        *two_layers(r"text\.pooled", "txt_in.c_embedder.linear_1", "txt_in.c_embedder.linear_2"),
        (r"^time\.scalars\.guidance\.", "guidance_in."),
        (r"^time\.", "time_in."),
        *two_layers("pooled", "vector_in.in_layer", "vector_in.out_layer"),
        (r"^embed\.", "img_in.proj."),
        (r"^modulation\.linear\.", "final_layer.adaLN_modulation.1."),
        (r"^out\.", "final_layer.linear."),
    ]


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=lambda knobs: {r"img_in\.proj\.weight": hunyuan_dit.patches(knobs)},
)


@LAYOUTS.register("hunyuan_dit_original")
def _layout() -> Layout:
    return LAYOUT

"""Open-Sora 2.0's MM-DiT as its authors published it, in both of its spellings; the second is FLUX's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._joint import renumbered, schedule, single_in, single_out, two_layers
from videogen.checkpoints.layouts._shapes import count

#: what no tensor tells: of the release, whose weights come without a config
RELEASE = {"axes_dim": (16, 56, 56), "theta": 10000, "patch_size": 2}
SPELLINGS = ("double_blocks.0.img_attn.q_proj.weight", "double_blocks.0.img_attn.qkv.weight")


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return "double_blocks.0.img_mod.lin.weight" in keys and any(key in keys for key in SPELLINGS)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    config = {**RELEASE, **config}
    fused = SPELLINGS[1] in tensors
    for key, told in (("fused_qkv", fused), ("use_liger_rope", not fused)):
        if config.get(key, told) != told:
            raise ValueError(f"{key}={config[key]} with {'one layer' if fused else 'three layers'} of qkv is unknown")
    dim, volume = tensors["img_in.weight"].shape
    patch, axes = config["patch_size"], tuple(config["axes_dim"])
    head_dim = tensors["double_blocks.0.img_attn.norm.query_norm.scale"].shape[0]
    if sum(axes) != head_dim:
        raise ValueError(f"axes_dim={list(axes)} of heads with {head_dim} channels: they must add up")
    if SPELLINGS[fused].replace(".weight", ".bias") not in tensors:
        raise ValueError("qkv_bias=False is not implemented: only True is")
    counts = {kind: count(tensors, rf"{kind}_blocks\.(\d+)\.") for kind in ("double", "single")}
    return {
        "latent_channels": volume // patch**2,
        "text_dim": tensors["txt_in.weight"].shape[1],
        "pooled_dim": tensors["vector_in.in_layer.weight"].shape[1],
        "dim": dim,
        "depth": sum(counts.values()),
        "num_heads": dim // head_dim,
        "patch_size": (1, patch, patch),
        "layers": schedule(**counts),
        "dit": {
            "block": {"name": "double"},
            "position": {
                "name": "rope",
                "split": axes,
                "theta": float(config["theta"]),
                # the kernel that goes with three layers turns halves of a head
                "pairs": "interleaved" if fused else "half",
            },
            "time": {
                "name": "sincos",
                "features": tensors["time_in.in_layer.weight"].shape[1],
                "scale": 1000.0,
                "scalars": ("guidance",) if "guidance_in.in_layer.weight" in tensors else (),
            },
            "modulation": {"name": "adaln_zero"},
            "norm": {"name": "layer", "affine": False, "eps": 1e-6},
            "qk_norm": {"name": "rms", "eps": 1e-6},
            "mlp": {
                "name": "gelu",
                "hidden": tensors["double_blocks.0.img_mlp.0.weight"].shape[0],
                "approximate": "tanh",
            },
            "caption": {"name": "linear"},
            "pool": {"name": "mlp"},
            # a mask and the known latents
            "known": {"name": "add", "mask_channels": 1} if "cond_in.weight" in tensors else {"name": "none"},
        },
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    single, dim, width = r"single_blocks\.\d+", knobs["dim"], knobs["dit"]["mlp"]["hidden"]
    fused = knobs["dit"]["position"]["pairs"] == "interleaved"
    inner = single_in(knobs, single, "linear1")
    if not fused:
        values = rf"v_mlp.\2[rows 0:{dim}]"
        inner = [
            (rf"^({single})\.attention\.qkv\.(\w+)$", rf"\1.{{q_proj.\2,k_proj.\2,{values}}}"),
            (rf"^({single})\.mlp\.0\.(\w+)$", rf"\1.v_mlp.\2[rows {dim}:{dim + width}]"),
        ]
    return [
        *renumbered(knobs, double="double_blocks", single="single_blocks"),
        *single_out(knobs, single, "linear2"),
        *inner,
        (r"\.attention\.text\.", ".txt_attn."),
        (rf"^({single})\.attention\.", r"\1."),
        (r"\.attention\.", ".img_attn."),
        (r"\.qkv\.", ".qkv." if fused else ".{q_proj,k_proj,v_proj}."),
        (r"\.norm_q\.weight$", ".norm.query_norm.scale"),
        (r"\.norm_k\.weight$", ".norm.key_norm.scale"),
        (r"(_attn)\.out\.", r"\1.proj."),
        (rf"^({single})\.modulation\.linear\.", r"\1.modulation.lin."),
        (r"\.text_modulation\.linear\.", ".txt_mod.lin."),
        (r"^(double_blocks\.\d+)\.modulation\.linear\.", r"\1.img_mod.lin."),
        (r"\.text_mlp\.", ".txt_mlp."),
        (r"^(double_blocks\.\d+)\.mlp\.", r"\1.img_mlp."),
        *two_layers(r"time\.mlp", "time_in.in_layer", "time_in.out_layer"),
        *two_layers(r"time\.scalars\.guidance\.mlp", "guidance_in.in_layer", "guidance_in.out_layer"),
        *two_layers("pooled", "vector_in.in_layer", "vector_in.out_layer"),
        (r"^text\.0\.", "txt_in."),
        (r"^embed\.", "img_in."),
        (r"^known\.layer\.", "cond_in."),
        (r"^modulation\.linear\.", "final_layer.adaLN_modulation.1."),
        (r"^out\.", "final_layer.linear."),
    ]


LAYOUT = Layout(kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames)


@LAYOUTS.register("opensora_2_dit")
def _layout() -> Layout:
    return LAYOUT

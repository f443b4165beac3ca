"""HunyuanVideo's transformer, as diffusers stores it (HunyuanVideoTransformer3DModel)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._dit import require
from videogen.checkpoints.layouts._joint import ATTENTION, MLP, renumbered, schedule, single_out, two_layers
from videogen.checkpoints.transforms import HALVES_SWAPPED, Transform, rearranged

#: settings of which one value alone is known here
FIXED = {"qk_norm": "rms_norm"}
#: how the image is given -> whether its latents stand beside the noisy ones, with a mask
IMAGES: Mapping[str | None, bool] = {None: False, "latent_concat": True}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "HunyuanVideoTransformer3DModel"


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    require(config, FIXED)
    image = config.get("image_condition_type")
    if image not in IMAGES:
        raise ValueError(f"image_condition_type={image!r} is not implemented: only {', '.join(map(str, IMAGES))} are")
    channels = config["out_channels"]
    if config["in_channels"] != (2 * channels + 1 if IMAGES[image] else channels):
        raise ValueError(f"in_channels={config['in_channels']} with image_condition_type={image!r}, out of {channels}")
    double, single, head_dim = (config[key] for key in ("num_layers", "num_single_layers", "attention_head_dim"))
    patch, heads = config["patch_size"], config["num_attention_heads"]
    return {
        "latent_channels": channels,
        "text_dim": config["text_embed_dim"],
        "pooled_dim": config["pooled_projection_dim"],
        "dim": heads * head_dim,
        "depth": double + single,
        "num_heads": heads,
        "patch_size": (config["patch_size_t"], patch, patch),
        "layers": schedule(double=double, single=single),
        "dit": {
            "block": {"name": "double"},
            "position": {
                "name": "rope",
                "split": tuple(config["rope_axes_dim"]),
                "theta": float(config["rope_theta"]),
                "pairs": "interleaved",
            },
            # times there run from 0 to 1000
            "time": {"name": "sincos", "scale": 1000.0, "scalars": ("guidance",) if config["guidance_embeds"] else ()},
            "modulation": {"name": "adaln_zero"},
            "norm": {"name": "layer", "affine": False, "eps": 1e-6},
            "qk_norm": {"name": "rms", "eps": 1e-6},
            "mlp": {"name": "gelu", "hidden": int(heads * head_dim * config["mlp_ratio"]), "approximate": "tanh"},
            # the published class has one ratio for the refiner's MLPs, whatever the config says of the others
            "caption": {"name": "refiner", "num_heads": heads, "depth": config["num_refiner_layers"], "ratio": 4.0},
            "pool": {"name": "mlp"},
            "known": {"name": "concat", "mask_channels": 1} if IMAGES[image] else {"name": "none"},
        },
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    double, single = "transformer_blocks", "single_transformer_blocks"
    time, caption, refined = "time_text_embed", "context_embedder", r"^text\.blocks\.(\d+)"
    block = rf"{caption}.token_refiner.refiner_blocks.\1"
    return [
        *renumbered(knobs, double=double, single=single),
        *single_out(knobs, rf"{single}\.\d+", "proj_out"),
        (rf"^({single}\.\d+)\.mlp\.0\.", r"\1.proj_mlp."),
        (rf"^({single}\.\d+)\.modulation\.", r"\1.norm."),
        (rf"^({double}\.\d+)\.modulation\.", r"\1.norm1."),
        (rf"^({double}\.\d+)\.text_modulation\.", r"\1.norm1_context."),
        *ATTENTION,
        (rf"{refined}\.qkv\.", rf"{block}.attn.{{to_q,to_k,to_v}}."),
        (rf"{refined}\.out\.", rf"{block}.attn.to_out.0."),
        (rf"{refined}\.norm_attention\.", rf"{block}.norm1."),
        (rf"{refined}\.norm_mlp\.", rf"{block}.norm2."),
        (rf"{refined}\.gates\.", rf"{block}.norm_out.linear."),
        (rf"{refined}\.mlp\.", rf"{block}.mlp."),
        *MLP,
        (r"^text\.proj\.", f"{caption}.proj_in."),
        *_two_layers(r"text\.time\.mlp", f"{caption}.{time}.timestep_embedder"),
        *_two_layers(r"text\.pooled", f"{caption}.{time}.text_embedder"),
        *_two_layers(r"time\.mlp", f"{time}.timestep_embedder"),
        *_two_layers("pooled", f"{time}.text_embedder"),
        *_two_layers(r"time\.scalars\.guidance\.mlp", f"{time}.guidance_embedder"),
        (r"^embed\.", "x_embedder.proj."),
        (r"^modulation\.", "norm_out."),
        (r"^out\.", "proj_out."),
    ]


def _two_layers(ours: str, name: str) -> list[tuple[str, str]]:
    return two_layers(ours, f"{name}.linear_1", f"{name}.linear_2")


def patches(knobs: Config) -> Transform:
    """The convolution that cuts patches, whose channels are the latents, the known ones and then their mask."""
    (t, h, w), channels = knobs["patch_size"], knobs["latent_channels"]
    masks = knobs["dit"]["known"].get("mask_channels", 0)
    cut = rearranged("d c t h w -> d (c t h w)", t=t, h=h, w=w)
    if not masks:
        return cut

    def exchanged(x: Tensor, second: int, third: int) -> Tensor:
        return torch.cat([x.split([channels, second, third], dim=1)[i] for i in (0, 2, 1)], dim=1)

    return Transform(
        lambda x: cut.to_ours(exchanged(x, channels, masks)),
        lambda x: exchanged(cut.to_published(x), masks, channels),
    )


def _transforms(knobs: Config) -> Mapping[str, Transform]:
    # scale, then shift there
    return {r"x_embedder\.proj\.weight": patches(knobs), r"norm_out\.linear\..*": HALVES_SWAPPED}


LAYOUT = Layout(
    kind="denoiser", part="dit", recognise=_recognise, knobs=_knobs, renames=_renames, transforms=_transforms
)


@LAYOUTS.register("hunyuan_dit")
def _layout() -> Layout:
    return LAYOUT

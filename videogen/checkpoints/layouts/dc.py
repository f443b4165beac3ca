"""DC-AE, as diffusers stores it (AutoencoderDC): SANA's model and those of ImageNet and of mixed data."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS

#: norm and activation of a residual block -> whether it is the one with batch norms
FLAVOURS = {("rms_norm", "silu"): False, ("batch_norm", "relu"): True}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") == "AutoencoderDC"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    if config.get("in_channels", 3) != 3:
        raise ValueError(f"in_channels={config['in_channels']} is not implemented: only 3 is")
    channels = config["latent_channels"]
    attends = {half: _levels(config, f"{half}_block_types") for half in ("encoder", "decoder")}
    return {
        "latent_channels": channels,
        "encoder_widths": tuple(config["encoder_block_out_channels"]),
        "encoder_blocks": tuple(config["encoder_layers_per_block"]),
        "decoder_widths": tuple(config["decoder_block_out_channels"]),
        "decoder_blocks": tuple(config["decoder_layers_per_block"]),
        "encoder_attention": _attention(attends["encoder"]),
        "decoder_attention": _attention(attends["decoder"]),
        "head_dim": config.get("attention_head_dim", 32),
        "qkv_scales": _scales(config, attends),
        # published configs spell the other kind in more than one way
        "downsample": "pixel_unshuffle" if config["downsample_block_type"] == "pixel_unshuffle" else "conv",
        "upsample": "interpolate" if config["upsample_block_type"] == "interpolate" else "pixel_shuffle",
        "decoder_batch_norm": _batch_norm(config, attends["decoder"]),
        "encoder_shortcut": config.get("encoder_out_shortcut", True),
        "decoder_shortcut": config.get("decoder_in_shortcut", True),
        "out_activation": config.get("decoder_conv_act_fn", "relu"),
        "latent_scale": (float(config.get("scaling_factor", 1.0)),) * channels,
    }


def _levels(config: Config, name: str, default: str = "ResBlock") -> list[str]:
    """A setting of each level; one word stands for all."""
    value = config.get(name, default)
    return [value] * len(config["encoder_block_out_channels"]) if isinstance(value, str) else list(value)


def _attention(kinds: list[str]) -> int:
    """How many levels attend."""
    count = kinds.count("EfficientViTBlock")
    if kinds != ["ResBlock"] * (len(kinds) - count) + ["EfficientViTBlock"] * count:
        raise ValueError(f"block_types={kinds}: only ResBlock, then EfficientViTBlock, is implemented")
    return count


def _scales(config: Config, attends: dict[str, list[str]]) -> tuple[int, ...]:
    """The scales of queries, keys and values: one setting for all levels that attend."""
    found = {
        tuple(scales)
        for half, kinds in attends.items()
        for scales, kind in zip(config[f"{half}_qkv_multiscales"], kinds, strict=True)
        if kind == "EfficientViTBlock"
    }
    if len(found) > 1:
        raise ValueError(f"qkv_multiscales={sorted(found)}: other scales on other levels are not implemented")
    return next(iter(found), ())


def _batch_norm(config: Config, kinds: list[str]) -> bool:
    """Whether the decoder's residual blocks are those with batch norms."""
    norms, activations = _levels(config, "decoder_norm_types", "rms_norm"), _levels(config, "decoder_act_fns", "silu")
    levels = list(zip(norms, activations, kinds, strict=True))
    found = {(norm, activation) for norm, activation, kind in levels if kind == "ResBlock"} or {("rms_norm", "silu")}
    attending = {norm for norm, _, kind in levels if kind == "EfficientViTBlock"}
    if len(found) > 1 or not found <= FLAVOURS.keys() or not attending <= {"rms_norm"}:
        raise ValueError(
            f"decoder_norm_types={norms}, decoder_act_fns={activations}: residual blocks have rms_norm and silu, or "
            "batch_norm and relu, on all levels, and the others rms_norm"
        )
    return FLAVOURS[next(iter(found))]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    levels = len(knobs["decoder_widths"])
    return [
        *((rf"^decoder\.levels\.{i}\.", f"decoder.up_blocks.{levels - 1 - i}.") for i in range(levels)),
        (r"^encoder\.levels\.", "encoder.down_blocks."),
        (r"\.attention\.qkv\.", ".attn.{to_q,to_k,to_v}."),
        (r"\.attention\.scales\.(\d+)\.0\.", r".attn.to_qkv_multiscale.\1.proj_in."),
        (r"\.attention\.scales\.(\d+)\.1\.", r".attn.to_qkv_multiscale.\1.proj_out."),
        (r"\.attention\.out\.", ".attn.to_out."),
        (r"\.attention\.norm\.", ".attn.norm_out."),
        (r"\.glu\.expand\.", ".conv_out.conv_inverted."),
        (r"\.glu\.depth\.", ".conv_out.conv_depth."),
        (r"\.glu\.project\.", ".conv_out.conv_point."),
        (r"\.glu\.norm\.", ".conv_out.norm."),
        (r"^decoder\.norm\.", "decoder.norm_out."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
    ]


LAYOUT = Layout(
    kind="vae",
    part="dc",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    axes={r".*\.attn\.to_(q|k|v|out)\.weight": 2},
)


@LAYOUTS.register("dc")
def _layout() -> Layout:
    return LAYOUT

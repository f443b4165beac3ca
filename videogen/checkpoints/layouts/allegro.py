"""Allegro's autoencoder, as diffusers (AutoencoderKLAllegro) and its authors (AllegroAutoencoderKL3D) store it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._diffusers import ATTENTION_AXES, level_knobs

#: the keys and their meaning are the same, the settings have other names
CLASSES = ("AutoencoderKLAllegro", "AllegroAutoencoderKL3D")
#: settings that must be so
FIXED = {"in_channels": 3, "out_channels": 3, "act_fn": "silu"}


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("_class_name") in CLASSES


def _knobs(config: Config, tensors: Any) -> dict[str, Any]:
    ratio = 2 ** sum(_either(config, "temporal_downsample_blocks", "blocks_tempdown_li"))
    for name, expected in {**FIXED, "temporal_compression_ratio": ratio}.items():
        if config.get(name, expected) != expected:
            raise ValueError(f"{name}={config[name]!r}: only {expected!r} is supported")
    side, shared = config["sample_size"], config.get("tile_overlap", (120, 80))
    scale = float(_either(config, "scaling_factor", "scale_factor"))
    return {
        **level_knobs(config),
        "time_downsample": tuple(_either(config, "temporal_downsample_blocks", "blocks_tempdown_li")),
        "time_upsample": tuple(_either(config, "temporal_upsample_blocks", "blocks_tempup_li")),
        "tile": (config.get("chunk_len", 24), side, side),
        "overlap": (config.get("t_over", 8), *shared),
        "latent_scale": (scale,) * config["latent_channels"],
    }


def _either(config: Config, name: str, authors: str) -> Any:
    return config[name] if name in config else config[authors]


def _places(knobs: Config) -> Iterator[tuple[str, str]]:
    """Our numbered layers and theirs."""
    levels, count = len(knobs["channel_multipliers"]), knobs["num_res_blocks"]
    for half, side, blocks, changes, change in (
        ("encoder", "down", count, knobs["time_downsample"], "temp_convs_down"),
        ("decoder", "up", count + 1, knobs["time_upsample"], "temp_conv_up"),
    ):
        index = 0
        for level in range(levels):
            names = [f"{kind}.{block}" for block in range(blocks) for kind in ("resnets", "temp_convs")]
            names += [change] if changes[level] else []
            names += [f"{side}samplers.0"] if level < levels - 1 else []
            for name in names:
                yield f"{half}.levels.{index}", f"{half}.{side}_blocks.{level}.{name}"
                index += 1
        for number, name in enumerate(("resnets.0", "temp_convs.0", "attentions.0", "resnets.1", "temp_convs.1")):
            yield f"{half}.middle.{number}", f"{half}.mid_block.{name}"


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        *((rf"^{ours}\.".replace(".levels.", r"\.levels\."), f"{theirs}.") for ours, theirs in _places(knobs)),
        # there is a dropout before the convolutions in the middle
        (r"\.stages\.([0-3])\.norm\.", r".conv\1.0."),
        (r"\.stages\.([03])\.conv\.", r".conv\1.2."),
        (r"\.stages\.([12])\.conv\.", r".conv\1.3."),
        *((rf"\.conv{stage}\.([023])\.", rf".conv{stage + 1}.\1.") for stage in (3, 2, 1, 0)),
        (r"\.attentions\.0\.norm\.", ".attentions.0.group_norm."),
        (r"\.attentions\.0\.qkv\.", ".attentions.0.{to_q,to_k,to_v}."),
        (r"\.attentions\.0\.out\.", ".attentions.0.to_out.0."),
        (r"\.shortcut\.", ".conv_shortcut."),
        (r"^(encoder|decoder)\.mix_(in|out)\.", r"\1.temp_conv_\2."),
        (r"^(encoder|decoder)\.norm\.", r"\1.conv_norm_out."),
        (r"^(encoder|decoder)\.out\.", r"\1.conv_out."),
        (r"^(post_)?quant\.", r"\1quant_conv."),
    ]


LAYOUT = Layout(kind="vae", part="allegro", recognise=_recognise, knobs=_knobs, renames=_renames, axes=ATTENTION_AXES)


@LAYOUTS.register("allegro")
def _layout() -> Layout:
    return LAYOUT

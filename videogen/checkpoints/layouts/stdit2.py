"""STDiT2, the denoiser of Open-Sora 1.1, as its authors published it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._stdit import NODES, RENAMES, frequencies, stdit_transforms

#: signals of a block: those of attention within frames and of the MLP stand in one table, those along time in another
TABLES = ("scale_shift_table[rows 0:3]", "scale_shift_table_temporal", "scale_shift_table[rows 3:6]")


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"blocks.0.scale_shift_table_temporal", "fl_embedder.mlp.0.weight"} <= set(keys)


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    for key, value in (("mlp_ratio", 4.0), ("no_temporal_pos_emb", False)):
        if config.get(key, value) != value:
            raise ValueError(f"{key}={config[key]!r}: only {value!r} is known here")
    return {
        "latent_channels": config["in_channels"],
        "text_dim": config["caption_channels"],
        "dim": config["hidden_size"],
        "num_heads": config["num_heads"],
        "depth": config["depth"],
        "patch_size": tuple(config["patch_size"]),
        "fill": True,
        "learned_sigma": config["pred_sigma"],
        "null_tokens": config["model_max_length"],
        "dit": {
            **NODES,
            "block": {"name": "stdit2"},
            "position": {"name": "sincos", "base": 0, "reference": config["input_sq_size"], "time": "rotary"},
            # steps of 0 to 999 there and here
            "time": {"name": "sincos", "scale": 1.0},
            "modulation": {"name": "adaln_sized"},
            "qk_norm": {"name": "rms" if config["qk_norm"] else "none"},
        },
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        (r"(blocks\.\d+)\.modulation\.table$", rf"\1.{{{','.join(TABLES)}}}"),
        (r"\.spatial\.", ".attn."),
        (r"\.temporal\.", ".attn_temp."),
        (r"^shared\.space\.", "t_block."),
        (r"^shared\.time\.", "t_block_temp."),
        (r"^shared\.side\.", "csize_embedder."),
        (r"^shared\.ratio\.", "ar_embedder."),
        (r"^shared\.frames\.", "fl_embedder."),
        (r"^shared\.fps\.", "fps_embedder."),
        *RENAMES,
    ]


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=stdit_transforms,
    constants=frequencies,
)


@LAYOUTS.register("stdit2")
def _layout() -> Layout:
    return LAYOUT

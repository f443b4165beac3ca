"""STDiT3, the denoiser of Open-Sora 1.2, as its authors published it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._stdit import NODES, RENAMES, frequencies, stdit_transforms


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # the one of Open-Sora 1.3 also embeds known frames
    return {"spatial_blocks.0.attn.qkv.weight", "fps_embedder.mlp.0.weight"} <= set(
        keys
    ) and "x_embedder_cond.proj.weight" not in keys


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    for key, value in (("mlp_ratio", 4.0), ("skip_y_embedder", False)):
        if config.get(key, value) != value:
            raise ValueError(f"{key}={config[key]!r}: only {value!r} is known here")
    pairs, qk_norm = config["depth"], config["qk_norm"]
    return {
        "latent_channels": config["in_channels"],
        "text_dim": config["caption_channels"],
        "dim": config["hidden_size"],
        "num_heads": config["num_heads"],
        "depth": 2 * pairs,
        "layers": f"[spatial, temporal]*{pairs}",
        "patch_size": tuple(config["patch_size"]),
        "fill": True,
        "learned_sigma": config["pred_sigma"],
        "null_tokens": config["model_max_length"],
        "dit": {
            "position": {"name": "sincos", "base": 0, "reference": config["input_sq_size"], "time": "rotary"},
            # their times run to 1000, ours to 1
            "time": {"name": "sincos", "scale": 1000.0, "scalars": ("fps",)},
            "qk_norm": {"name": "rms" if qk_norm else "none"},
            **NODES,
        },
    }


def _renames(knobs: Config) -> list[tuple[str, str]]:
    halves = ("spatial_blocks", "temporal_blocks")
    blocks = [f"{half}.{pair}" for pair in range(knobs["depth"] // 2) for half in halves]
    return [
        *((rf"^blocks\.{index}\.", f"{name}.") for index, name in enumerate(blocks)),
        (r"\.attention\.", ".attn."),
        (r"^time\.scalars\.fps\.mlp\.", "fps_embedder.mlp."),
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
    untold=("dit.time.default_fps",),
)


@LAYOUTS.register("stdit3")
def _layout() -> Layout:
    return LAYOUT

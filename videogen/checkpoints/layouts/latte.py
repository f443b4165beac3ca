"""Latte-1 (diffusers' LatteTransformer3DModel) and its heir, LatteT2V of Open-Sora-Plan v1.0 and v1.1."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._pixart import pixart_knobs, pixart_renames, pixart_transforms


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"temporal_transformer_blocks.0.attn1.to_q.weight", "adaln_single.linear.weight"} <= set(keys)


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    if config.get("use_rope", False):
        raise ValueError("use_rope=True: only the sin-cos positions of the released weights are known here")
    knobs, pairs = pixart_knobs(config), config["num_layers"]
    side = config["sample_size"]
    # Latte's own config has one side, Open-Sora-Plan's two, of which the first counts
    plan = not isinstance(side, int)
    height = side[0] if plan else side
    # numbers in a schedule are compared as they are written
    code = f"time_code={_time_scale(config) if plan else 1}"
    temporal = "temporal(text=false, stills=false" if plan else "temporal(text=false"
    rest = f", [spatial, {temporal})]*{pairs - 1}" if pairs > 1 else ""
    position = {"name": "sincos", "base": height // config["patch_size"], "scale": float(max(height // 64, 1))}
    return {
        **knobs,
        "depth": 2 * pairs,
        "layers": f"[spatial, {temporal}, {code}){rest}]",
        "dit": {**knobs["dit"], "position": {**position, "over_padding": plan}},
    }


def _time_scale(config: Config) -> int | float:
    """What frames are divided by: v1.1's config has one knob more, and its rule is another."""
    length: int = config["video_length"]
    if "interpolation_scale_1d" not in config:
        return max(int(length) // 5, 1)
    told: float | None = config["interpolation_scale_1d"]
    return max((length - length % 2) // 16 if told is None else told, 1)


def _renames(knobs: Config) -> list[tuple[str, str]]:
    halves = ("transformer_blocks", "temporal_transformer_blocks")
    return pixart_renames(f"{half}.{pair}" for pair in range(knobs["depth"] // 2) for half in halves)


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=pixart_transforms,
    # a text for dropped captions that the released models never saw
    ignored=r"caption_projection\.y_embedding",
)


@LAYOUTS.register("latte")
def _layout() -> Layout:
    return LAYOUT

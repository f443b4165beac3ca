"""Open-Sora-Plan v1.2 and v1.3: full 3D attention, and skip-sparse attention between two full layers at either end.

And v1.3 for inpainting, which also takes the latents of a masked video and the mask.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._pixart import pixart_knobs, pixart_renames, pixart_transforms

INPAINT = "OpenSoraInpaint_v1_3"
CLASSES = ("OpenSoraT2V", "OpenSoraT2V_v1_3", INPAINT)
#: layers of v1.3 that stay dense, whatever their number: the first ones, and all from the last on
DENSE = (2, 30)


def _recognise(config: Config, keys: Collection[str]) -> bool:
    # PixArt's image models have the same keys
    return config.get("_class_name") in CLASSES and "transformer_blocks.0.attn2.to_q.weight" in keys


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    if not config.get("use_rope", True):
        raise ValueError("use_rope=False: only the rotary positions of the released weights are known here")
    knobs, depth, head_dim = pixart_knobs(config), config["num_layers"], config["attention_head_dim"]
    third = head_dim // 3
    rope = {"name": "rope", "split": (third,) * 3, "pairs": "axis_half", "scale": _scale(config)}
    known: dict[str, Any] = {"name": "none"}
    if config.get("_class_name") == INPAINT:
        known = {"name": "embed", "mask_channels": config["vae_scale_factor_t"]}
    return {
        **knobs,
        "depth": depth,
        "layers": _layers(depth, config["sparse_n"]) if config.get("sparse1d") else None,
        "dit": {**knobs["dit"], "block": {"name": "full3d"}, "position": rope, "known": known},
    }


def _scale(config: Config) -> tuple[float, float, float]:
    """What places along (t, y, x) are divided by; v1.2 tells it by the size that it was trained at, if at all."""
    told = [config[f"interpolation_scale_{axis}"] for axis in "thw"]
    if None in told:
        size, frames = config["sample_size"], config["sample_size_t"]
        height, width = (size, size) if isinstance(size, int) else size
        trained = ((frames - 1) // 16 + 1 if frames % 2 else frames / 16, height / 30, width / 40)
        told = [rule if scale is None else scale for rule, scale in zip(trained, told, strict=True)]
    return float(told[0]), float(told[1]), float(told[2])


def _layers(depth: int, k: int) -> str:
    """Even layers are single skips, odd ones group skips."""
    first, last = DENSE
    sparse = max(min(depth, last) - first, 0)
    single, group = (f"skiparse(mode={mode}, k={k}, over_padding=true)" for mode in ("single", "group"))
    parts = [f"full3d*{min(depth, first)}"]
    parts += [f"[{single}, {group}]*{sparse // 2}"] if sparse > 1 else []
    parts += [single] if sparse % 2 else []
    parts += [f"full3d*{depth - last}"] if depth > last else []
    return f"[{', '.join(parts)}]"


def _renames(knobs: Config) -> list[tuple[str, str]]:
    return [
        (r"^known\.latents\.0\.", "pos_embed_masked_hidden_states.0.proj."),
        (r"^known\.latents\.1\.", "pos_embed_masked_hidden_states.1."),
        (r"^known\.mask\.0\.", "pos_embed_mask.0.proj."),
        (r"^known\.mask\.1\.", "pos_embed_mask.1."),
        *pixart_renames(f"transformer_blocks.{index}" for index in range(knobs["depth"])),
    ]


LAYOUT = Layout(
    kind="denoiser",
    part="dit",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    transforms=pixart_transforms,
)


@LAYOUTS.register("opensora_plan")
def _layout() -> Layout:
    return LAYOUT

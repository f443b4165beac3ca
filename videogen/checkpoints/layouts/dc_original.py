"""DC-AE as its authors published it (mit-han-lab's dc-ae-*)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS, dc
from videogen.checkpoints.layouts._shapes import count

#: channels of a head in every release
HEAD_DIM = 32


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return "decoder.stages.1.op_list.0.main.conv.conv.bias" in keys


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    finest = tensors["decoder.stages.1.op_list.0.main.conv.conv.weight"].shape[0]
    halves = _half(tensors, "encoder") | _half(tensors, "decoder")
    scales = _scales(
        tensors, f"encoder.stages.{len(halves['encoder_widths']) - 1}.op_list.0.context_module.main.aggreg"
    )
    return {
        "latent_channels": _tensor(tensors, r"decoder\.project_in\.(main\.)?conv\.weight").shape[1],
        **halves,
        "head_dim": HEAD_DIM,
        "qkv_scales": scales,
        "downsample": "pixel_unshuffle" if _has(tensors, r"encoder\..*\.main\.conv\.conv\.weight") else "conv",
        "upsample": "interpolate" if finest == halves["decoder_widths"][1] else "pixel_shuffle",
        "decoder_batch_norm": _has(tensors, r"decoder\..*\.running_mean"),
        "encoder_shortcut": _has(tensors, r"encoder\.project_out\.main\..*"),
        "decoder_shortcut": _has(tensors, r"decoder\.project_in\.main\..*"),
    }


def _half(tensors: Mapping[str, Tensor], half: str) -> dict[str, Any]:
    """Width and blocks of each level, and how many levels attend."""
    first = r"(main\.conv1|local_module\.main\.point_conv)\.conv\.weight"
    stage = re.compile(rf"{half}\.stages\.(\d+)\.op_list\.\d+\.{first}")
    found = [match for key in tensors if (match := stage.fullmatch(key))]
    levels = range(1 + max(int(match[1]) for match in found))
    widths = {int(match[1]): tensors[match[0]].shape[0] for match in found}
    # a first level without blocks has no weights: every release says half of the next one's width
    widths.setdefault(0, widths[1] // 2)
    return {
        f"{half}_widths": tuple(widths[level] for level in levels),
        f"{half}_blocks": tuple(sum(int(match[1]) == level for match in found) for level in levels),
        f"{half}_attention": len({match[1] for match in found if match[2].startswith("local_module")}),
    }


def _scales(tensors: Mapping[str, Tensor], attention: str) -> tuple[int, ...]:
    """The sizes of the windows that an attention gathers over."""
    number = count(tensors, rf"{re.escape(attention)}\.(\d+)\.0\.")
    return tuple(tensors[f"{attention}.{index}.0.weight"].shape[-1] for index in range(number))


def _has(keys: Iterable[str], pattern: str) -> bool:
    return any(re.fullmatch(pattern, key) for key in keys)


def _tensor(tensors: Mapping[str, Tensor], pattern: str) -> Tensor:
    found = [tensor for key, tensor in tensors.items() if re.fullmatch(pattern, key)]
    if not found:
        raise KeyError(pattern)
    return found[0]


def _renames(knobs: Config) -> list[tuple[str, str]]:
    down = "conv.conv" if knobs["downsample"] == "pixel_unshuffle" else "conv"
    enters = "" if knobs["encoder_blocks"][0] else r"conv\."
    leaves = "" if knobs["decoder_blocks"][0] else r"conv\."
    inward, outward = ("main." if knobs[f"{half}_shortcut"] else "" for half in ("decoder", "encoder"))
    return [
        *dc.LAYOUT.renames(knobs),
        (r"\.(down|up)_blocks\.(\d+)\.(\d+)\.", r".stages.\2.op_list.\3."),
        (r"(^encoder\.stages\.\d+\.op_list\.\d+)\.conv\.", rf"\1.main.{down}."),
        (r"(^decoder\.stages\.\d+\.op_list\.\d+)\.conv\.", r"\1.main.conv.conv."),
        (r"(\.op_list\.\d+)\.conv([12])\.", r"\1.main.conv\2.conv."),
        (r"(\.op_list\.\d+)\.norm\.", r"\1.main.conv2.norm."),
        (r"\.attn\.\{to_q,to_k,to_v\}\.", ".context_module.main.qkv.conv."),
        (r"\.attn\.to_qkv_multiscale\.(\d+)\.proj_in\.", r".context_module.main.aggreg.\1.0."),
        (r"\.attn\.to_qkv_multiscale\.(\d+)\.proj_out\.", r".context_module.main.aggreg.\1.1."),
        (r"\.attn\.to_out\.", ".context_module.main.proj.conv."),
        (r"\.attn\.norm_out\.", ".context_module.main.proj.norm."),
        (r"\.conv_out\.conv_(inverted|depth|point)\.", r".local_module.main.\1_conv.conv."),
        (r"\.conv_out\.norm\.", ".local_module.main.point_conv.norm."),
        (rf"^encoder\.conv_in\.{enters}", f"encoder.project_in.conv.{'conv.' if enters else ''}"),
        (r"^encoder\.conv_out\.", f"encoder.project_out.{outward}op_list.0.conv."),
        (r"^decoder\.conv_in\.", f"decoder.project_in.{inward}conv."),
        (r"^decoder\.norm_out\.", "decoder.project_out.op_list.0."),
        (rf"^decoder\.conv_out\.{leaves}", f"decoder.project_out.op_list.2.conv.{'conv.' if leaves else ''}"),
    ]


LAYOUT = Layout(
    kind="vae",
    part="dc",
    recognise=_recognise,
    knobs=_knobs,
    renames=_renames,
    untold=("latent_scale", "out_activation"),
)


@LAYOUTS.register("dc_original")
def _layout() -> Layout:
    return LAYOUT

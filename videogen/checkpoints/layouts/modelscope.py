"""The 3D U-Net of ModelScope and Zeroscope as first released (UNetSD), one file of tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from videogen.checkpoints.layout import Config, Layout
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.layouts._unet import FIRST_HEADS, numbered_knobs, numbered_renames

FIRST, DOWN = "input_blocks.0.1", "op"


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return {"input_blocks.0.1.proj_in.weight", "middle_block.0.temopral_conv.conv1.0.weight"} <= set(keys)


def _knobs(config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return numbered_knobs(tensors, first=FIRST, down=DOWN, heads=config.get("num_heads", FIRST_HEADS))


LAYOUT = Layout(
    kind="denoiser",
    part="unet",
    recognise=_recognise,
    knobs=_knobs,
    renames=lambda knobs: numbered_renames(knobs, first=FIRST, down=DOWN),
    # the projections around attention along time are convolutions of 1 there
    axes={r"(input_blocks\.0\.1|(in|out)put_blocks\.\d+\.2|middle_block\.2)\.proj_(in|out)\.weight": 3},
    # what was trained further in other programs
    prefixes=("model.diffusion_model.",),
)


@LAYOUTS.register("modelscope")
def _layout() -> Layout:
    return LAYOUT

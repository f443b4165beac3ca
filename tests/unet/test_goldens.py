"""The U-Net against the published implementations themselves: same weights in, same numbers out.

The fixtures hold what the original code gave, in float32, for weights that a seed makes (`seeded`): none are stored.
Each `config.json` names that code, its commit and its settings.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.checkpoints import Published
from videogen.checkpoints.published import families, recognise
from videogen.denoiser import Condition
from videogen.kernels import ATTENTION

# fixture -> family of its keys, the fps that its code takes where none are given, its cases
GOLDENS: dict[str, tuple[str, float | None, list[str]]] = {
    "modelscope": ("modelscope", None, ["video", "image"]),
    # attention along time tells 3 frames apart, and there are 5 and 2
    "videocrafter1": ("videocrafter", None, ["video", "short"]),
    "videocrafter1_i2v": ("videocrafter", None, ["video"]),
    # the image is one frame, without fps
    "videocrafter2": ("videocrafter", 16.0, ["video", "image"]),
    # 48 image tokens are 16 for each of 3 frames, and seen by both of 2 frames
    "dynamicrafter_256": ("videocrafter", 3.0, ["per_frame", "shared"]),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_it_equals_the_original(golden: Any, distance: Callable[[Tensor, Tensor], float], name: str) -> None:
    family, default_fps, cases = GOLDENS[name]
    told = golden(name)
    layout = recognise(told.params, told.weights, name)
    assert layout is families()[family]
    found = Published(Path(name), layout, layout.knobs(told.params, told.weights), told.weights)
    unet = found.build(
        attention=ATTENTION.build("sdpa"), **({} if default_fps is None else {"default_fps": default_fps})
    )
    assert sorted(told.cases) == sorted(cases)
    for inputs, wanted in told.cases.values():
        latents, timestep = inputs.pop("x"), inputs.pop("timesteps")
        with torch.no_grad():
            assert distance(unet(latents, timestep, Condition(**inputs)), wanted) < 1e-5


@pytest.mark.parametrize("name", GOLDENS)
def test_its_weights_go_back_as_they_came(golden: Any, name: str) -> None:
    told = golden(name)
    layout = recognise(told.params, told.weights, name)
    knobs = layout.knobs(told.params, told.weights)
    unet = Published(Path(name), layout, knobs, told.weights).build(attention=ATTENTION.build("sdpa"))
    back = layout.to_published(unet.state_dict(), knobs)
    assert back.keys() == told.weights.keys()
    assert all(torch.equal(back[key], value) for key, value in told.weights.items())

"""The U-Net against diffusers' UNet3DConditionModel with the same random weights, at odd sizes, texts padded or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet3DConditionModel
from seeded import seeded
from torch import Tensor, nn

from videogen.checkpoints.published import families
from videogen.denoiser import DENOISERS, Condition
from videogen.kernels import ATTENTION

CONFIGS: dict[str, dict[str, Any]] = {
    "two levels": {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
        "layers_per_block": 1,
        "cross_attention_dim": 24,
        "attention_head_dim": 8,
    },
    "three levels": {
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
        "layers_per_block": 2,
        "cross_attention_dim": 10,
        "attention_head_dim": 16,
        "in_channels": 3,
        "out_channels": 3,
        "norm_num_groups": 8,
    },
}
# frames, height, width: all even; odd at one level or another; smaller than the halvings; a single frame
SIZES = [(3, 8, 12), (2, 7, 10), (1, 5, 3), (5, 1, 6)]


class Pair:
    """The same weights in theirs and in ours."""

    def __init__(self, name: str) -> None:
        self.theirs: nn.Module = UNet3DConditionModel(**CONFIGS[name]).eval()
        weights = seeded({key: tuple(value.shape) for key, value in self.theirs.state_dict().items()})
        self.theirs.load_state_dict(weights)
        layout = families()["unet3d"]
        knobs = layout.knobs(self.theirs.config, {})
        self.ours = DENOISERS.build("unet", attention=ATTENTION.build("sdpa"), **knobs).eval()
        self.ours.load_state_dict(layout.to_ours(weights, self.ours, knobs))
        self.channels, self.text_dim = knobs["latent_channels"], knobs["text_dim"]


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_equals_diffusers(
    pair: Pair, distance: Callable[[Tensor, Tensor], float], size: tuple[int, int, int]
) -> None:
    torch.manual_seed(2)
    latents, text = torch.randn(2, pair.channels, *size), torch.randn(2, 7, pair.text_dim)
    timestep = torch.tensor([981, 3])
    with torch.no_grad():
        wanted = pair.theirs(latents, timestep, text).sample
        assert distance(pair.ours(latents, timestep, Condition(text=text)), wanted) < 1e-5


def test_padded_texts_equal_diffusers_on_each_text_alone(
    pair: Pair, distance: Callable[[Tensor, Tensor], float]
) -> None:
    """Theirs takes a mask and doesn't use it, so it gets each text cut to its words."""
    torch.manual_seed(3)
    latents, text = torch.randn(3, pair.channels, 2, 6, 7), torch.randn(3, 9, pair.text_dim)
    timestep, words = torch.tensor([500, 20, 999]), [9, 4, 1]
    mask = torch.arange(9) < torch.tensor(words)[:, None]
    # what fills a text up must not matter
    padded = text.masked_fill(~mask[..., None], 1e4)
    with torch.no_grad():
        got = pair.ours(latents, timestep, Condition(text=padded, text_mask=mask))
        for i, count in enumerate(words):
            alone = pair.theirs(latents[i : i + 1], timestep[i : i + 1], text[i : i + 1, :count]).sample
            assert distance(got[i : i + 1], alone) < 1e-5

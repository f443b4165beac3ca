"""Mochi 1's transformer: equal to diffusers' MochiTransformer3DModel on the same weights, by both layouts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import MochiTransformer3DModel
from diffusers.loaders.single_file_utils import convert_mochi_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file
from torch import Tensor

from videogen import load
from videogen.checkpoints.layouts.mochi_dit import LAYOUT
from videogen.checkpoints.layouts.mochi_dit_original import LAYOUT as ORIGINAL
from videogen.denoiser import Condition
from videogen.dit.model import DiT
from videogen.dit.pools import POOLS
from videogen.dit.positions import POSITIONS
from videogen.kernels import ATTENTION

SMALL: dict[str, Any] = {
    "num_attention_heads": 3,
    "attention_head_dim": 8,
    "num_layers": 2,
    "pooled_projection_dim": 15,
    "in_channels": 3,
    "text_embed_dim": 16,
    "time_embed_dim": 8,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "other numbers": {
        **SMALL,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 3,
        "pooled_projection_dim": 24,
        "patch_size": 1,
    },
    "one layer": {**SMALL, "num_layers": 1},
}
Translated, Distance = Callable[..., DiT], Callable[[Tensor, Tensor], float]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_equals_diffusers(translated: Translated, distance: Distance, name: str) -> None:
    truth = MochiTransformer3DModel(**CONFIGS[name]).eval()
    ours = translated(LAYOUT, truth)
    source = torch.Generator().manual_seed(1)
    # the last has no word at all, as in the absence of text
    mask = torch.arange(7) < torch.tensor([7, 3, 0])[:, None]
    # time there runs the other way; fractions that a thousand times are whole numbers in float32
    time = torch.tensor([0.625, 0.25, 0.5])
    for size in ((2, 4, 6), (3, 6, 2)):
        latents, text = torch.randn(3, 3, *size, generator=source), torch.randn(3, 7, 16, generator=source)
        with warnings.catch_warnings():
            # it asks for an autocast to float32, which a CPU has not
            warnings.simplefilter("ignore", UserWarning)
            wanted = truth(latents, text, 1000 * (1 - time), mask).sample
        assert distance(ours(latents, time, Condition(text=text, text_mask=mask)), wanted) < 1e-5


@torch.no_grad()
def test_the_authors_file_has_the_same_tensors_under_other_names(translated: Translated, tmp_path: Path) -> None:
    # the published conversion has the number of layers of the release in it
    config = {**SMALL, "num_attention_heads": 1, "num_layers": 48}
    truth = MochiTransformer3DModel(**config)
    ours = translated(LAYOUT, truth)
    knobs, wanted = LAYOUT.knobs(truth.config, {}), truth.state_dict()
    released = ORIGINAL.to_published(ours.state_dict(), knobs)
    assert ORIGINAL.knobs({}, released) == knobs
    save_file(released, tmp_path / "dit.safetensors")
    again = load(tmp_path / "dit.safetensors")
    assert all(torch.equal(again.state_dict()[key], value) for key, value in ours.state_dict().items())
    converted = convert_mochi_transformer_checkpoint_to_diffusers(dict(released))
    assert converted.keys() == wanted.keys()
    assert all(torch.equal(converted[key], value) for key, value in wanted.items())


def test_what_is_not_implemented_is_refused() -> None:
    full = {**MochiTransformer3DModel(**SMALL).config}
    with pytest.raises(ValueError, match="qk_norm='layer_norm' is not implemented"):
        LAYOUT.knobs({**full, "qk_norm": "layer_norm"}, {})
    with pytest.raises(ValueError, match="out_channels=6: only in_channels=3 is implemented"):
        LAYOUT.knobs({**full, "out_channels": 6}, {})


def test_learned_frequencies_start_as_plain_ones_and_learn() -> None:
    rope = POSITIONS.build("learned_rope", 24, 2, area=12.0)
    table = rope.rotary((2, 3, 4), torch.device("cpu"))
    assert table.cos.shape == (24, 2, 12)
    # pairs in turn on t, y and x; a grid of the same area is counted in tokens, from its centre
    angles = torch.atan2(table.sin[:, 0, 1::2], table.cos[:, 0, 1::2]).view(2, 3, 4, 6)
    assert torch.allclose(angles[:, 0, 0, 0], torch.tensor([0.0, 1.0]))
    assert torch.allclose(angles[0, :, 0, 1], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6)
    assert torch.allclose(angles[0, 0, :, 2], torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    assert torch.allclose(angles[1, 0, 0, 3], torch.tensor(1e-2))
    # four times the area is counted in halves
    wide = POSITIONS.build("learned_rope", 24, 2, area=12.0).rotary((1, 6, 8), torch.device("cpu"))
    assert torch.allclose(wide.cos.view(6, 8, 2, 12)[:, 0, 0, 2], torch.cos((torch.arange(6) - 2.5) / 2))
    table.turn(torch.randn(1, 24, 2, 12)).square().sum().backward()
    assert rope.frequencies.grad is not None
    with pytest.raises(ValueError, match="learned_rope measures a clip by its whole grid"):
        rope.add(torch.zeros(1, 24, 24), (2, 3, 4), torch.ones(1, 24, dtype=torch.bool))
    with pytest.raises(ValueError, match="head_dim 9 has no pairs of channels"):
        POSITIONS.build("learned_rope", 18, 2)


@torch.no_grad()
def test_pooling_reads_words_alone() -> None:
    torch.manual_seed(0)
    pool, kernel = POOLS.build("attention", 16, 16, 24, num_heads=2), ATTENTION.build("sdpa")
    text, words = torch.randn(2, 5, 16), torch.arange(5) < torch.tensor([5, 3])[:, None]
    out = pool(Condition(text=text, text_mask=words), kernel)
    assert out.shape == (2, 24)
    behind = text.masked_fill(~words[..., None], 7.0)
    assert torch.equal(pool(Condition(text=behind, text_mask=words), kernel), out)
    assert torch.allclose(pool(Condition(text=text[1:, :3]), kernel), out[1:], atol=1e-6)
    assert pool(Condition(), kernel) is None
    with pytest.raises(ValueError, match="text of width 16 can't be split over 3 heads"):
        POOLS.build("attention", 16, 16, 24, num_heads=3)

"""Allegro's transformer: equal to diffusers' AllegroTransformer3DModel on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AllegroTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed_allegro
from torch import Tensor

from videogen.checkpoints.layouts.allegro_dit import LAYOUT
from videogen.denoiser import Condition
from videogen.dit.model import DiT

SMALL = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 3,
    "out_channels": 3,
    "num_layers": 2,
    "cross_attention_dim": 24,
    "caption_channels": 10,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "other patches and scales": {
        **SMALL,
        "attention_head_dim": 18,
        "cross_attention_dim": 36,
        "patch_size": 1,
        "attention_bias": False,
        "norm_eps": 1e-4,
        "interpolation_scale_t": 1.0,
        "interpolation_scale_h": 1.5,
        "interpolation_scale_w": 3.0,
    },
}
Translated, Distance = Callable[..., DiT], Callable[[Tensor, Tensor], float]


def rotary(config: Any, size: tuple[int, int, int]) -> tuple[Any, Any]:
    """What their pipeline hands to their model: a table an axis, and each token's place on it."""
    frames, rows, columns = size[0], size[1] // config.patch_size, size[2] // config.patch_size
    *tables, t, h, w = get_3d_rotary_pos_embed_allegro(
        embed_dim=config.attention_head_dim,
        crops_coords=((0, 0), (rows, columns)),
        grid_size=(rows, columns),
        temporal_size=frames,
        interpolation_scale=tuple(config[f"interpolation_scale_{axis}"] for axis in "thw"),
        device=torch.device("cpu"),
    )
    places = torch.cartesian_prod(t.round().long(), h.round().long(), w.round().long())
    return tuple(tables), tuple(places.T[:, None])


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_equals_diffusers(translated: Translated, distance: Distance, name: str) -> None:
    truth = AllegroTransformer3DModel(**CONFIGS[name]).eval()
    ours = translated(LAYOUT, truth)
    text = torch.randn(2, 7, 10, generator=torch.Generator().manual_seed(4))
    mask = torch.arange(7) < torch.tensor([7, 3])[:, None]
    time = torch.tensor([981, 3])
    for size in ((3, 4, 6), (1, 6, 2)):
        latents = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        wanted = truth(
            latents, text, time, encoder_attention_mask=mask, image_rotary_emb=rotary(truth.config, size)
        ).sample
        assert distance(ours(latents, time, Condition(text=text, text_mask=mask)), wanted) < 1e-5


def test_the_preset_is_the_release(is_release: Callable[..., None]) -> None:
    with torch.device("meta"):
        truth = AllegroTransformer3DModel()
    is_release("allegro", LAYOUT, truth)


def test_settings_that_are_not_implemented_are_refused() -> None:
    full = {**AllegroTransformer3DModel(**SMALL).config}
    for setting in ({"patch_size_t": 2}, {"norm_elementwise_affine": True}, {"out_channels": 6}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is not implemented"):
            LAYOUT.knobs({**full, **setting}, {})

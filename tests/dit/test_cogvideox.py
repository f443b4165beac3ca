"""CogVideoX's transformers: equal to diffusers' CogVideoXTransformer3DModel on the same weights, at any size."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel
from torch import Tensor

from videogen.checkpoints.layouts.cogvideox_dit import LAYOUT
from videogen.denoiser import Condition
from videogen.dit.model import DiT

TWO_B: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 12,
    "text_embed_dim": 10,
    "num_layers": 2,
    "sample_width": 14,
    "sample_height": 8,
    "sample_frames": 9,
    "max_text_seq_length": 7,
}
FIVE_B = {**TWO_B, "use_rotary_positional_embeddings": True}
CONFIGS: dict[str, dict[str, Any]] = {
    "2b": TWO_B,
    "5b": FIVE_B,
    "1.5": {**FIVE_B, "patch_size_t": 2, "patch_bias": False},
    "other numbers": {
        **FIVE_B,
        "num_attention_heads": 3,
        "attention_bias": False,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-4,
        "time_embed_dim": 20,
        "num_layers": 1,
    },
    "2b, squeezed": {**TWO_B, "spatial_interpolation_scale": 1.3, "temporal_interpolation_scale": 0.7},
    "image to video": {**FIVE_B, "in_channels": 8},
    "image to video, learnt places": {**FIVE_B, "in_channels": 8, "use_learned_positional_embeddings": True},
    "image to video, 1.5": {
        **FIVE_B,
        "in_channels": 8,
        "patch_size_t": 2,
        "patch_bias": False,
        "ofs_embed_dim": 12,
    },
}
# the trained size; a taller one and a wider one, which 5b squeezes and stretches
SIZES = ((2, 8, 14), (4, 6, 4), (2, 4, 12))
# the only one whose places were learnt
LEARNED = (3, 8, 14)
Translated, Distance = Callable[..., DiT], Callable[[Tensor, Tensor], float]


def turns(truth: CogVideoXTransformer3DModel, size: tuple[int, int, int]) -> tuple[Tensor, Tensor] | None:
    """The table that the published pipeline hands to the model, which makes none itself."""
    if not truth.config["use_rotary_positional_embeddings"]:
        return None
    pipeline: Any = SimpleNamespace(vae_scale_factor_spatial=8, transformer=truth)
    frames, rows, columns = size
    prepared = CogVideoXPipeline._prepare_rotary_positional_embeddings
    table: tuple[Tensor, Tensor] = prepared(pipeline, 8 * rows, 8 * columns, frames, torch.device("cpu"))
    return table


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_equals_diffusers(translated: Translated, distance: Distance, name: str) -> None:
    # its table of places starts in float64, as no file has it
    truth = CogVideoXTransformer3DModel(**CONFIGS[name]).float().eval()
    learned = truth.config["use_learned_positional_embeddings"]
    if learned:
        # also of the text's places, which are zeros before training
        truth.patch_embed.pos_embedding.normal_(generator=torch.Generator().manual_seed(2))
    ours = translated(LAYOUT, truth)
    source = torch.Generator().manual_seed(1)
    for size in (LEARNED,) if learned else SIZES:
        latents, image, text = (torch.randn(2, *shape, generator=source) for shape in ((4, *size), (4, *size), (7, 10)))
        time = torch.tensor([999, 20])
        channels, known, ofs = [latents], {}, None
        if name.startswith("image to video"):
            channels, known = [latents, image], {"known": image}
        if truth.config["ofs_embed_dim"]:
            # as its pipeline has it: this number, and the image's latents divided where others are multiplied
            ofs, known = torch.full((1,), 2.0), {"known": image * 0.7 * 0.7}
        channels_first = torch.cat(channels, dim=1).transpose(1, 2)
        turned = turns(truth, size)
        wanted = truth(channels_first, text, time, ofs=ofs, image_rotary_emb=turned).sample.transpose(1, 2)
        assert distance(ours(latents, time, Condition(text=text, **known)), wanted) < 1e-5


def test_what_is_not_implemented_is_refused() -> None:
    full = {**CogVideoXTransformer3DModel(**TWO_B).config}
    for setting in ({"timestep_activation_fn": "gelu"}, {"flip_sin_to_cos": False}, {"freq_shift": 1}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))}=.* is not implemented"):
            LAYOUT.knobs({**full, **setting}, {})
    with pytest.raises(ValueError, match="in_channels=5: as many as out_channels=4, or twice as many"):
        LAYOUT.knobs({**full, "in_channels": 5}, {})
    with pytest.raises(ValueError, match="patch_bias=False is not implemented"):
        LAYOUT.knobs({**full, "patch_bias": False}, {})
    with pytest.raises(ValueError, match="ofs_embed_dim=512 is added to time_embed_dim=12: both must be the same"):
        LAYOUT.knobs({**full, "ofs_embed_dim": 512}, {})


def test_places_that_were_never_learnt_are_refused(translated: Translated) -> None:
    config = CONFIGS["image to video, learnt places"]
    ours = translated(LAYOUT, CogVideoXTransformer3DModel(**config).float())
    time, text = torch.zeros(1), torch.randn(1, 7, 10)
    for size in ((2, 8, 14), (3, 8, 12)):
        latents = torch.randn(1, 4, *size)
        with pytest.raises(ValueError, match=r"has learnt the places of \(3, 4, 7\) alone"):
            ours(latents, time, Condition(text=text, known=latents))
    latents = torch.randn(1, 4, *LEARNED)
    with pytest.raises(ValueError, match="a text of 8 tokens, and this model knows 7: shorten it"):
        ours(latents, time, Condition(text=torch.randn(1, 8, 10), known=latents))
    # a shorter one is at the first places
    assert ours(latents, time, Condition(text=text[:, :3], known=latents)).shape == latents.shape


def test_a_squeezed_grid_can_not_be_padded(translated: Translated) -> None:
    ours = translated(LAYOUT, CogVideoXTransformer3DModel(**FIVE_B))
    valid = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"fit=\(4, 7\) squeezes whole grids: give clips of one size"):
        ours(torch.randn(1, 4, 2, 4, 4), torch.zeros(1), Condition(valid=valid))

"""HunyuanVideo's transformer: equal to diffusers' on the same weights, by both layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import HunyuanVideoTransformer3DModel
from diffusers.loaders.single_file_utils import convert_hunyuan_video_transformer_to_diffusers
from safetensors.torch import save_file
from torch import Tensor

from videogen import load
from videogen.checkpoints.layouts import hunyuan_dit_original
from videogen.checkpoints.layouts.hunyuan_dit import LAYOUT
from videogen.checkpoints.layouts.hunyuan_dit_original import LAYOUT as ORIGINAL
from videogen.denoiser import Condition
from videogen.dit.captions import CAPTIONS
from videogen.dit.model import DiT
from videogen.kernels import ATTENTION

T2V: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "num_single_layers": 2,
    "num_refiner_layers": 2,
    "text_embed_dim": 10,
    "pooled_projection_dim": 6,
    "rope_axes_dim": (4, 4, 4),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "t2v": T2V,
    "other numbers": {
        **T2V,
        "num_attention_heads": 3,
        "num_layers": 1,
        "num_single_layers": 3,
        "num_refiner_layers": 1,
        "guidance_embeds": False,
        "patch_size_t": 2,
        "mlp_ratio": 3.0,
        "rope_theta": 100.0,
        "rope_axes_dim": (2, 4, 6),
    },
    "image to video": {**T2V, "in_channels": 7, "image_condition_type": "latent_concat"},
}
Translated, Distance = Callable[..., DiT], Callable[[Tensor, Tensor], float]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_it_equals_diffusers(translated: Translated, distance: Distance, name: str) -> None:
    config = CONFIGS[name]
    truth = HunyuanVideoTransformer3DModel(**config).eval()
    ours = translated(LAYOUT, truth)
    source = torch.Generator().manual_seed(1)
    mask = torch.arange(7) < torch.tensor([7, 3])[:, None]
    for size in ((2, 4, 6), (4, 6, 2)):
        latents, text, pooled = (torch.randn(2, *shape, generator=source) for shape in ((3, *size), (7, 10), (6,)))
        given: dict[str, Tensor] = {"text": text, "text_mask": mask, "pooled": pooled}
        channels, guidance = [latents], torch.tensor([6.0, 1.5])
        if config.get("guidance_embeds", True):
            given["guidance"] = guidance
        if name == "image to video":
            known = torch.randn(2, 3, *size, generator=source)
            frames = torch.tensor([[True, *[False] * (size[0] - 1)]]).expand(2, -1)
            given |= {"known": known, "known_mask": frames}
            channels += [known, frames[:, None, :, None, None].expand(-1, -1, -1, *size[1:]).float()]
        # fractions that a thousand times are whole numbers in float32
        time = torch.tensor([0.625, 0.25])
        wanted = truth(torch.cat(channels, dim=1), 1000 * time, text, mask, pooled, 1000 * guidance).sample
        assert distance(ours(latents, time, Condition(**given)), wanted) < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_the_authors_file_has_the_same_tensors_under_other_names(
    translated: Translated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    truth = HunyuanVideoTransformer3DModel(**CONFIGS[name])
    ours = translated(LAYOUT, truth)
    knobs, wanted = LAYOUT.knobs(truth.config, {}), truth.state_dict()
    released = ORIGINAL.to_published(ours.state_dict(), knobs)
    rest = dict(released)
    # the published conversion has the width of the release in it where it cuts these
    for index in range(truth.config["num_single_layers"]):
        inner = f"single_transformer_blocks.{index}"
        for kind in ("weight", "bias"):
            names = [f"{inner}.{piece}.{kind}" for piece in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
            whole = torch.cat([wanted.pop(piece) for piece in names])
            assert torch.equal(rest.pop(f"single_blocks.{index}.linear1.{kind}"), whole)
    converted = convert_hunyuan_video_transformer_to_diffusers(rest)
    assert converted.keys() == wanted.keys()
    assert all(torch.equal(converted[key], value) for key, value in wanted.items())

    # no tensor tells the positions, which are the release's
    release = {"rope_axes_dim": knobs["dit"]["position"]["split"], "rope_theta": knobs["dit"]["position"]["theta"]}
    monkeypatch.setattr(hunyuan_dit_original, "ROPE", release)
    assert ORIGINAL.knobs({}, released) == knobs
    save_file(released, tmp_path / "hunyuan.safetensors")
    again = load(tmp_path / "hunyuan.safetensors")
    assert all(torch.equal(again.state_dict()[key], value) for key, value in ours.state_dict().items())


def test_heads_of_another_size_than_the_release_s_are_refused(translated: Translated) -> None:
    truth = HunyuanVideoTransformer3DModel(**T2V)
    released = ORIGINAL.to_published(translated(LAYOUT, truth).state_dict(), LAYOUT.knobs(truth.config, {}))
    with pytest.raises(ValueError, match="heads of 12 channels: the positions of 128 alone are known"):
        ORIGINAL.knobs({}, released)


def test_what_is_not_implemented_is_refused() -> None:
    full = {**HunyuanVideoTransformer3DModel(**T2V).config}
    with pytest.raises(ValueError, match="image_condition_type='token_replace' is not implemented"):
        LAYOUT.knobs({**full, "image_condition_type": "token_replace"}, {})
    with pytest.raises(ValueError, match="qk_norm='layer_norm' is not implemented"):
        LAYOUT.knobs({**full, "qk_norm": "layer_norm"}, {})
    with pytest.raises(ValueError, match="in_channels=4 with image_condition_type=None, out of 3"):
        LAYOUT.knobs({**full, "in_channels": 4}, {})


@torch.no_grad()
def test_the_refiner_reads_words_alone() -> None:
    torch.manual_seed(0)
    refiner = CAPTIONS.build("refiner", 10, 24, num_heads=2).eval()
    for value in refiner.parameters():
        torch.nn.init.normal_(value, std=0.2)
    kernel, text, time = ATTENTION.build("sdpa"), torch.randn(2, 5, 10), torch.tensor([600.0, 200.0])
    words = torch.arange(5) < torch.tensor([5, 3])[:, None]
    out = refiner(text, words, time, kernel)
    assert torch.equal(refiner(text.masked_fill(~words[..., None], 7.0), words, time, kernel)[words], out[words])
    alone = refiner(text[1:, :3], None, time[1:], kernel)
    assert torch.allclose(out[1:, :3], alone, atol=1e-5)
    assert not torch.allclose(refiner(text, words, time.flip(0), kernel), out, atol=1e-3)

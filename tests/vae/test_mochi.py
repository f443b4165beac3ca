"""Mochi's autoencoder: equal to diffusers' on the same weights, and dropping frames as its authors do; streaming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLMochi
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videogen.checkpoints import save_original
from videogen.checkpoints.layout import LayoutError
from videogen.checkpoints.layouts.mochi import LAYOUT
from videogen.checkpoints.published import read_published
from videogen.vae import VAES
from videogen.vae._mochi import TimeAttention, waves
from videogen.vae._streaming import StreamCache
from videogen.vae.mochi import MochiVAE

PUBLISHED: dict[str, Any] = {
    "encoder_block_out_channels": (32, 32, 64, 64),
    "decoder_block_out_channels": (32, 64, 32, 64),
    "layers_per_block": (1, 1, 2, 1, 1),
    "latent_channels": 4,
    "latents_mean": (0.5, -1.0, 0.25, 0.0),
    "latents_std": (2.0, 0.5, 1.0, 4.0),
}
# fewer levels, other strides, attention elsewhere
OTHER: dict[str, Any] = {
    **PUBLISHED,
    "encoder_block_out_channels": (64, 32, 32),
    "decoder_block_out_channels": (32, 32, 64),
    "layers_per_block": (2, 1, 1, 1),
    "temporal_expansions": (2, 2),
    "spatial_expansions": (1, 2),
    "add_attention_block": (True, False, True, False),
}
TINY: dict[str, Any] = {
    "latent_channels": 4,
    "encoder_widths": (4, 4, 8, 8),
    "decoder_widths": (4, 8, 4, 8),
    "num_res_blocks": (1, 1, 2, 1, 1),
    "head_dim": 2,
    "norm_groups": 2,
}


def loaded(truth: nn.Module, trim: str) -> MochiVAE:
    """Our part with diffusers' weights, which come back as they were."""
    published = truth.state_dict()
    knobs = LAYOUT.knobs(truth.config, published)
    vae = VAES.build("mochi", **knobs, trim=trim).eval()
    vae.load_state_dict(LAYOUT.to_ours(published, vae, knobs))
    back = LAYOUT.to_published(vae.state_dict(), knobs)
    assert back.keys() == published.keys()
    assert all(torch.equal(back[key], value) for key, value in published.items())
    return vae


def as_the_authors(truth: nn.Module, latents: Tensor) -> Tensor:
    """Diffusers' layers in its order, but that each level drops the frames before the clip's first."""
    decoder = truth.decoder
    h, _ = decoder.block_in(decoder.conv_in(latents))
    for block in decoder.up_blocks:
        h = block(h)[0][:, :, block.temporal_expansion - 1 :]
    h, _ = decoder.block_out(h)
    return decoder.proj_out(F.silu(h).movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize(
    ("config", "size"),
    [(PUBLISHED, (1, 24, 40)), (PUBLISHED, (7, 16, 24)), (OTHER, (9, 10, 6))],
    ids=["published-1f", "published-7f", "other-9f"],
)
@torch.no_grad()
def test_it_equals_diffusers(randomised, distance, config: dict[str, Any], size: tuple[int, int, int]) -> None:
    truth = randomised(AutoencoderKLMochi(**config))
    vae = loaded(truth, "end")
    video = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    posterior, wanted = vae.encode(video), truth.encode(video).latent_dist
    assert distance(posterior.mode(), wanted.mean) < 1e-5
    assert distance(posterior.logvar, wanted.logvar) < 1e-5
    decoded = truth.decode(wanted.mean).sample
    assert decoded.shape == video.shape
    assert distance(vae.decode(wanted.mean), decoded) < 1e-5
    authors = as_the_authors(truth, wanted.mean)
    assert distance(loaded(truth, "levels").decode(wanted.mean), authors) < 1e-5
    if size[0] > 1:
        # what is dropped late was seen by the convolutions of the frames after it
        assert distance(authors, decoded) > 1e-3


@pytest.mark.parametrize(("trim", "frames"), [("levels", 1), ("levels", 19), ("end", 13)])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, trim: str, frames: int) -> None:
    vae = randomised(MochiVAE(**TINY, trim=trim))
    video = torch.rand(1, 3, frames, 8, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@torch.no_grad()
def test_the_decoders_cache_holds_a_few_frames_and_the_encoders_attention_all() -> None:
    vae = MochiVAE(**TINY)
    video, latents = StreamCache(), StreamCache()
    held: dict[str, list[int]] = {"decoder": [], "encoder": [], "attention": []}
    for count in (1, 1, 2):
        vae.decode_chunk(torch.zeros(1, 4, count, 1, 1), latents)
        vae.encode_chunk(torch.zeros(1, 3, 6 * count - 5 * (not video), 8, 8), video)
        seen = {layer for layer in video if isinstance(layer, TimeAttention)}
        held["decoder"].append(sum(x.untyped_storage().nbytes() for x in latents.values()))
        held["attention"].append(sum(video[layer].shape[3] for layer in seen))
        held["encoder"].append(sum(x.untyped_storage().nbytes() for layer, x in video.items() if layer not in seen))
    assert held["decoder"][0] == held["decoder"][1] == held["decoder"][2]
    assert held["encoder"][0] == held["encoder"][1] == held["encoder"][2]
    # of 1, 7 and 19 frames: one layer at full frame rate, two at half, two at a sixth
    assert held["attention"] == [5, 7 + 2 * 4 + 2 * 2, 19 + 2 * 10 + 2 * 4]


@torch.no_grad()
def test_attention_sees_its_own_place_now_and_before(randomised) -> None:
    layer = randomised(TimeAttention(4, lambda channels: nn.Identity(), 2))
    clip = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(1))
    changed = clip.clone()
    changed[:, :, 2, 1, 2] += 1
    touched = (layer(clip) - layer(changed)).abs().amax((0, 1)).gt(1e-6).nonzero().tolist()
    assert touched == [[frame, 1, 2] for frame in (2, 3, 4)]


def test_waves_are_sines_and_cosines_of_each_colour() -> None:
    video = torch.rand(1, 3, 2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seen = waves(video, (1, 3))
    turns = [2 * torch.pi * octave * video[:, colour] for colour in range(3) for octave in (2, 8)]
    wanted = [*video.unbind(1), *(t.sin() for t in turns), *(t.cos() for t in turns)]
    torch.testing.assert_close(seen, torch.stack(wanted, dim=1), rtol=0, atol=1e-13)
    # 2^7 turns in bfloat16's eight bits would be noise: they are counted in float32
    half = video.bfloat16()
    torch.testing.assert_close(waves(half), waves(half.float()).bfloat16(), rtol=0, atol=0)


def original(knobs: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A part whose every tensor is another, and what the authors' files tell of it."""
    torch.manual_seed(0)
    vae = MochiVAE(**knobs)
    for value in vae.state_dict().values():
        value.normal_()
    told = {knob.name: knobs.get(knob.name, knob.default) for knob in VAES.knobs("mochi")}
    return vae, {key: told[key] for key in told if key not in ("trim", "latent_shift", "latent_scale")}


SMALL: dict[str, Any] = {
    "encoder_widths": (32, 32, 64),
    "decoder_widths": (32, 64, 32),
    "num_res_blocks": (2, 1, 3, 1),
    "time_strides": (2, 3),
    "space_strides": (2, 1),
    "encoder_attention": (True, False, True, False),
}


def test_the_authors_two_files_come_back_as_they_were(tmp_path: Path) -> None:
    vae, told = original(SMALL)
    (tmp_path / "one").mkdir()
    one = tmp_path / "one" / "mochi_vae.safetensors"
    save_original(vae, "mochi_original", told, one)
    tensors = load_file(one)
    halves = {}
    for half in ("encoder", "decoder"):
        halves[half] = {k.removeprefix(f"{half}."): v for k, v in tensors.items() if k.startswith(half)}
        save_file(halves[half], tmp_path / f"{half}.safetensors")
    # the names of both overlap
    assert {"output_proj.weight"} <= set(halves["encoder"]) & set(halves["decoder"])
    for place in (tmp_path, tmp_path / "encoder.safetensors", one):
        found = read_published(place)
        assert found.knobs == told
        back = found.build().state_dict()
        assert all(torch.equal(back[key], value) for key, value in vae.state_dict().items())
    (tmp_path / "decoder.safetensors").unlink()
    with pytest.raises(LayoutError, match="is of no known family"):
        read_published(tmp_path / "encoder.safetensors")


# names and shapes of the authors' code (src/genmo/mochi_preview/vae/models.py and pipelines.py)
NAMES: dict[str, tuple[int, ...]] = {
    "encoder.layers.0.weight": (64, 15),
    "encoder.layers.3.stack.5.weight": (64, 64, 3, 3, 3),
    "encoder.layers.4.layers.0.weight": (128, 64, 1, 2, 2),
    "encoder.layers.4.layers.3.attn_block.attn.qkv.weight": (384, 128),
    "encoder.layers.6.layers.0.bias": (384,),
    "encoder.layers.6.layers.6.attn_block.attn.out.bias": (384,),
    "encoder.layers.9.attn_block.norm.weight": (384,),
    "encoder.output_norm.bias": (384,),
    "encoder.output_proj.weight": (24, 384),
    "decoder.blocks.0.0.weight": (768, 12, 1, 1, 1),
    "decoder.blocks.0.3.stack.0.bias": (768,),
    "decoder.blocks.1.blocks.5.stack.2.weight": (768, 768, 3, 3, 3),
    "decoder.blocks.1.proj.weight": (512 * 3 * 4, 768),
    "decoder.blocks.3.proj.bias": (128 * 4,),
    "decoder.blocks.4.2.stack.3.weight": (128,),
    "decoder.output_proj.weight": (3, 128),
}


def test_its_original_names_are_the_authors() -> None:
    from videogen.checkpoints.layouts.mochi_original import LAYOUT as ORIGINAL

    with torch.device("meta"):
        vae, truth = MochiVAE(), AutoencoderKLMochi()
    knobs = {key: value for key, value in LAYOUT.knobs(truth.config, {}).items() if not key.startswith("latent_s")}
    published = ORIGINAL.to_published(vae.state_dict(), knobs)
    assert {key: tuple(published[key].shape) for key in NAMES} == NAMES
    assert ORIGINAL.recognise({}, published)
    assert ORIGINAL.knobs({}, published) == knobs


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="space_strides has 2 values for 3 time_strides: give 3"):
        MochiVAE(**TINY, space_strides=(2, 2))
    with pytest.raises(ValueError, match="num_res_blocks has 3 values for 3 time_strides: give 5"):
        MochiVAE(**{**TINY, "num_res_blocks": (1, 1, 1)})
    with pytest.raises(ValueError, match="4 channels do not split into heads of 3"):
        MochiVAE(**{**TINY, "head_dim": 3})
    with pytest.raises(ValueError, match="trim='never' is unknown: choose levels or end"):
        MochiVAE(**TINY, trim="never")
    with pytest.raises(ValueError, match="in_channels=3: only 15 is supported"):
        LAYOUT.knobs({"in_channels": 3}, {})
    assert LAYOUT.recognise({"_class_name": "AutoencoderKLMochi"}, ())

"""CLIP's vision tower against transformers, the resampler against VideoCrafter's own, and how images reach them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

import videogen
from videogen.checkpoints.layouts import videocrafter_image
from videogen.checkpoints.published import LayoutError, read_published
from videogen.config import build_part, files
from videogen.vision import VISION
from videogen.vision._pixels import MEAN, STD, clip_pixels
from videogen.vision._resampler import Resampler

FIXTURE = Path(__file__).parent / "fixtures" / "videocrafter_resampler.safetensors"
#: of the fixture: tokens of 40 channels, 6 queries of 48 in 3 heads of 16, 24 channels out
RESAMPLER = {"image_dim": 40, "dim": 24, "inner_dim": 48, "depth": 2, "num_heads": 3, "head_dim": 16, "num_queries": 6}
TOWER = {"image_size": 28, "patch_size": 14, "width": 40, "depth": 3, "num_heads": 5, "hidden": 72}
CONFIGS: dict[str, dict[str, Any]] = {
    "OpenCLIP": {"hidden_act": "gelu"},
    "OpenAI": {"hidden_act": "quick_gelu", "image_size": 42, "num_attention_heads": 2, "num_hidden_layers": 2},
}
Fill, Distance = Callable[[nn.Module], nn.Module], Callable[[Tensor, Tensor], float]


def transformers_tower(fill: Fill, **more: Any) -> CLIPVisionModel:
    config = CLIPVisionConfig(
        **{
            "image_size": TOWER["image_size"],
            "patch_size": TOWER["patch_size"],
            "hidden_size": TOWER["width"],
            "num_hidden_layers": TOWER["depth"],
            "num_attention_heads": TOWER["num_heads"],
            "intermediate_size": TOWER["hidden"],
            **more,
        }
    )
    tower = fill(CLIPVisionModel(config))
    assert isinstance(tower, CLIPVisionModel)
    return tower


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def open_clip(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tower under OpenCLIP's names, put together by hand from what transformers calls it."""
    theirs = {key.removeprefix("vision_model."): value for key, value in theirs.items()}
    named = {
        "class_embedding": theirs["embeddings.class_embedding"],
        "positional_embedding": theirs["embeddings.position_embedding.weight"],
        "conv1.weight": theirs["embeddings.patch_embedding.weight"],
        "proj": torch.randn(40, 8),
    }
    for kind in ("weight", "bias"):
        named[f"ln_pre.{kind}"] = theirs[f"pre_layrnorm.{kind}"]
        named[f"ln_post.{kind}"] = theirs[f"post_layernorm.{kind}"]
        for layer in range(TOWER["depth"]):
            here, there = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
            qkv = [theirs[f"{there}.self_attn.{one}_proj.{kind}"] for one in "qkv"]
            named[f"{here}.attn.in_proj_{kind}"] = torch.cat(qkv)
            named[f"{here}.attn.out_proj.{kind}"] = theirs[f"{there}.self_attn.out_proj.{kind}"]
            named[f"{here}.ln_1.{kind}"] = theirs[f"{there}.layer_norm1.{kind}"]
            named[f"{here}.ln_2.{kind}"] = theirs[f"{there}.layer_norm2.{kind}"]
            named[f"{here}.mlp.c_fc.{kind}"] = theirs[f"{there}.mlp.fc1.{kind}"]
            named[f"{here}.mlp.c_proj.{kind}"] = theirs[f"{there}.mlp.fc2.{kind}"]
    return named


def wan(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's names -> those of the file that Wan 2.1 comes with."""
    swaps = (
        ("class_embedding", "cls_embedding"),
        ("positional_embedding", "pos_embedding"),
        ("conv1.", "patch_embedding."),
        ("ln_pre.", "pre_norm."),
        ("ln_post.", "post_norm."),
        ("transformer.resblocks.", "transformer."),
        ("attn.in_proj_", "attn.to_qkv."),
        ("attn.out_proj.", "attn.proj."),
        ("ln_1.", "norm1."),
        ("ln_2.", "norm2."),
        ("mlp.c_fc.", "mlp.0."),
        ("mlp.c_proj.", "mlp.2."),
    )
    found = {}
    for key, value in named.items():
        for old, new in swaps:
            key = key.replace(old, new)
        found["head" if key == "proj" else key] = value
    found["cls_embedding"] = found["cls_embedding"][None, None]
    found["pos_embedding"] = found["pos_embedding"][None]
    return found


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_the_tower_equals_transformers(randomised: Fill, distance: Distance, tmp_path: Path, name: str) -> None:
    theirs = transformers_tower(randomised, **CONFIGS[name])
    theirs.save_pretrained(tmp_path)
    pictures = images(2, 1, 3, 50, 36)
    encoder = videogen.load(tmp_path)
    assert encoder.dim == TOWER["width"]
    pixels = clip_pixels(pictures[:, 0], theirs.config.image_size, "crop")
    wanted = theirs(pixels, output_hidden_states=True)
    assert distance(encoder.encode(pictures), wanted.last_hidden_state) < 1e-5
    encoder.num_layers -= 1
    assert distance(encoder.encode(pictures), wanted.hidden_states[-2]) < 1e-5
    assert encoder.null(pictures) is None


@torch.no_grad()
def test_files_of_openclip_and_of_wan_are_the_same_tower(randomised: Fill, distance: Distance, tmp_path: Path) -> None:
    theirs = transformers_tower(randomised, hidden_act="gelu")
    knobs = {**TOWER, "num_layers": 2, "resize": "stretch", "num_images": 2}
    pictures = images(2, 2, 3, 33, 20)
    pixels = clip_pixels(pictures.flatten(0, 1), 28, "stretch")
    wanted = theirs(pixels, output_hidden_states=True).hidden_states[2].unflatten(0, (2, 2)).flatten(1, 2)
    named = open_clip(theirs.state_dict())
    for family, tensors in (("clip_vision_open", named), ("clip_vision_wan", wan(named))):
        beside = {"textual.head.weight": torch.zeros(1)}
        file = tmp_path / f"{family}.safetensors"
        save_file({**{f"visual.{key}": value.contiguous() for key, value in tensors.items()}, **beside}, file)
        found = read_published(file)
        encoder = VISION.build("clip", **knobs)
        found.fill(encoder, "clip", knobs)
        assert distance(encoder.eval().encode(pictures), wanted) < 1e-5
        back = found.layout.to_published(encoder.state_dict(), knobs)
        assert all(torch.equal(tensors[key], value) for key, value in back.items())
        assert set(tensors) - set(back) <= {key for key in tensors if key.split(".")[0] in LEFT_OUT}
        with pytest.raises(LayoutError, match="patch_size: 14 there, 7 asked for"):
            found.fill(VISION.build("clip", **{**knobs, "patch_size": 7}), "clip", {**knobs, "patch_size": 7})


LEFT_OUT = ("ln_post", "post_norm", "proj", "head")


@torch.no_grad()
def test_the_resampler_equals_videocrafter_s(distance: Distance) -> None:
    tensors = load_file(FIXTURE)
    resampler = Resampler(**RESAMPLER)
    part = nn.ModuleDict({"resampler": resampler})
    weights = {
        f"image_proj_model.{key}": value for key, value in tensors.items() if not key.startswith(("in.", "out."))
    }
    part.load_state_dict(videocrafter_image.LAYOUT.to_ours(weights, part, {}))
    assert distance(resampler(tensors["in.x1"]), tensors["out.out1"]) < 1e-5


@torch.no_grad()
def test_one_file_holds_tower_and_resampler(randomised: Fill, distance: Distance, tmp_path: Path) -> None:
    theirs = transformers_tower(randomised, hidden_act="gelu")
    knobs = {**TOWER, "dim": 24, "inner_dim": 48, "inner_depth": 2, "inner_heads": 2, "num_queries": 6}
    source = VISION.build("resampler", **knobs)
    randomised(source)
    tower = {f"embedder.model.visual.{key}": value for key, value in open_clip(theirs.state_dict()).items()}
    ours = videocrafter_image.LAYOUT.to_published(source.state_dict(), knobs)
    resampler = {key: value for key, value in ours.items() if key.startswith("image_proj_model.")}
    beside = ("embedder.model.logit_scale", "model.diffusion_model.x", "betas")
    rest = {key: torch.ones(1) for key in beside}
    file = tmp_path / "model.safetensors"
    for prefix in ("", "_forward_module."):
        save_file({f"{prefix}{key}": value.contiguous() for key, value in (tower | resampler | rest).items()}, file)
        encoder = VISION.build("resampler", **knobs, resize="stretch")
        # heads of 64 channels are what every release has
        read_published(file, "vision").fill(encoder, "resampler", {**knobs, "inner_head_dim": 64})
        pictures = images(2, 1, 3, 30, 40)
        seen = theirs(clip_pixels(pictures[:, 0], 28, "stretch")).last_hidden_state
        assert distance(encoder.encode(pictures), source.resampler(seen)) < 1e-5
        gray = theirs(clip_pixels(torch.zeros(2, 3, 28, 28), 28, "stretch")).last_hidden_state
        assert distance(encoder.null(pictures), source.resampler(gray)) < 1e-5


def test_the_published_sizes() -> None:
    """ViT-H/14 as it is published has a norm and a projection for a pooled vector, which no video model reads."""
    pooled = 2 * 1280 + 1280 * 1024
    for preset, part, resampler in (
        ("wan2_1_i2v_14b", "clip", 0),
        ("wan2_1_flf2v_14b", "clip", 0),
        ("videocrafter1_i2v_512", "resampler", 48_541_696),
        ("dynamicrafter_512", "resampler", 48_787_456),
    ):
        file = files.read(files.presets("model")[preset])
        assert file.choices["vision"] == part
        with torch.device("meta"):
            encoder = build_part("vision", {"name": part, **file.values["vision"]})
        assert sum(value.numel() for value in encoder.parameters()) == 632_076_800 - pooled + resampler


def test_crop_is_what_transformers_processor_does() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((60, 90), (97, 50), (20, 31)):
        # smooth, as its bytes are rounded between two passes and ours aren't
        waves = [np.sin(np.arange(side)[:, None] * rng.uniform(0.05, 0.3, 3)) for side in (height, width)]
        picture = np.round(127.5 + 60 * (waves[0][:, None] + waves[1][None])).astype(np.uint8)
        processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
        wanted = torch.as_tensor(np.asarray(processor(picture, return_tensors="np").pixel_values))
        frame = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        # a level of a byte is 0.015 of these
        assert (clip_pixels(frame, 28, "crop") - wanted).abs().max() < 0.03


def test_blur_smooths_before_it_shrinks() -> None:
    """The formulas of kornia's resize: a Gaussian of (factor - 1) / 2 pixels, then bicubic from centre to centre."""
    frame = images(1, 3, 70, 28)
    sigma, half = (70 / 28 - 1) / 2, 1
    offsets = torch.arange(-half, half + 1)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    rows = torch.zeros_like(frame)
    for row in range(70):
        for weight, offset in zip(weights, offsets.tolist(), strict=True):
            rows[:, :, row] += weight * frame[:, :, _mirrored(row + offset, 70)]
    resized = torch.nn.functional.interpolate(rows, (28, 28), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    assert torch.allclose(clip_pixels(frame, 28, "blur"), ((resized + 1) / 2 - mean) / std, atol=1e-5)
    # what is small already is enlarged and not blurred, and what fits is left as it is
    small = torch.nn.functional.interpolate(images(1, 3, 9, 20), (28, 28), mode="bicubic", align_corners=True)
    assert torch.allclose(clip_pixels(images(1, 3, 9, 20), 28, "blur"), ((small + 1) / 2 - mean) / std, atol=1e-5)
    assert torch.allclose(clip_pixels(frame[:, :, :28], 28, "blur"), ((frame[:, :, :28] + 1) / 2 - mean) / std)


def _mirrored(place: int, length: int) -> int:
    return abs(place) if place < length else 2 * (length - 1) - place


def test_what_is_no_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="num_layers=4: the tower has depth=3"):
        VISION.build("clip", **TOWER, num_layers=4)
    with pytest.raises(ValueError, match="num_images=0: at least 1"):
        VISION.build("clip", **TOWER, num_images=0)
    with pytest.raises(ValueError, match="patch_size=14 must divide image_size=30"):
        VISION.build("clip", **{**TOWER, "image_size": 30})
    with pytest.raises(ValueError, match="vision=none encodes no image"):
        VISION.build("none").encode(images(1, 1, 3, 8, 8))

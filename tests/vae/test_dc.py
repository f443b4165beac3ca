"""DC-AE: equal to diffusers' AutoencoderDC on the same weights, each frame alone, and deterministic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from torch import Tensor

from videogen.checkpoints.layouts.dc import LAYOUT
from videogen.vae import VAES
from videogen.vae.dc import DeepCompressionAE

# the model of SANA, small
SANA: dict[str, Any] = {
    "latent_channels": 4,
    "attention_head_dim": 4,
    "encoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
    "decoder_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
    "encoder_block_out_channels": (8, 8, 16),
    "decoder_block_out_channels": (8, 8, 16),
    "encoder_layers_per_block": (1, 2, 1),
    "decoder_layers_per_block": (2, 1, 1),
    "encoder_qkv_multiscales": ((), (), (5,)),
    "decoder_qkv_multiscales": ((), (), (5,)),
    # as SANA's config spells it
    "downsample_block_type": "Conv",
    "upsample_block_type": "interpolate",
    "scaling_factor": 0.41407,
}
# the models of ImageNet: no blocks at full resolution, batch norms, attention over one scale
IMAGENET = SANA | {
    "encoder_layers_per_block": (0, 1, 1),
    "decoder_layers_per_block": (0, 2, 1),
    "encoder_qkv_multiscales": ((), (), ()),
    "decoder_qkv_multiscales": ((), (), ()),
    "downsample_block_type": "pixel_unshuffle",
    "upsample_block_type": "pixel_shuffle",
    "decoder_norm_types": ["batch_norm", "batch_norm", "rms_norm"],
    "decoder_act_fns": ["relu", "relu", "silu"],
    "scaling_factor": 0.3189,
}
# halves that differ, two scales, and no shortcuts around the latents
UNEVEN = SANA | {
    "latent_channels": 3,
    "encoder_block_out_channels": (4, 8, 8),
    "decoder_block_out_channels": (16, 8, 16),
    "encoder_block_types": ("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
    "decoder_block_types": "ResBlock",
    "encoder_qkv_multiscales": ((), (3, 5), (3, 5)),
    "decoder_qkv_multiscales": ((), (), ()),
    "encoder_out_shortcut": False,
    "decoder_in_shortcut": False,
    "decoder_conv_act_fn": "silu",
}
MODELS = {"sana": SANA, "imagenet": IMAGENET, "uneven": UNEVEN}


def pair(settings: dict[str, Any], fill: Any) -> tuple[AutoencoderDC, DeepCompressionAE, dict[str, Any]]:
    """Theirs and ours with the same random weights, and our knobs."""
    theirs = fill(AutoencoderDC(**settings))
    source = torch.Generator().manual_seed(3)
    for name, buffer in theirs.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(buffer.shape, generator=source) + float("var" in name))
    config = dict(theirs.config, _class_name="AutoencoderDC")
    published = theirs.state_dict()
    assert LAYOUT.recognise(config, published)
    knobs = LAYOUT.knobs(config, published)
    ours = DeepCompressionAE(**knobs)
    ours.load_state_dict(LAYOUT.to_ours(published, ours, knobs))
    return theirs, ours.eval(), knobs


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(16, 24), (20, 4), (4, 4)])
@torch.no_grad()
def test_it_equals_diffusers(randomised, distance, model: str, size: tuple[int, int]) -> None:
    """At the smallest size theirs multiplies in another order: with fewer positions than channels of a head."""
    theirs, ours, _ = pair(MODELS[model], randomised)
    video = torch.randn(2, 3, 2, *size, generator=torch.Generator().manual_seed(1))
    latents = ours.encode(video).mode()
    # float32 rounding: up to 6e-7 on the latents and 8e-7 on the video were measured
    assert distance(latents, torch.stack([theirs.encode(frame).latent for frame in video.unbind(2)], 2)) < 1e-5
    frames = [theirs.decode(frame).sample for frame in latents.unbind(2)]
    assert distance(ours.decode(latents), torch.stack(frames, 2)) < 1e-5


@pytest.mark.parametrize("model", MODELS)
def test_the_layout_goes_both_ways(randomised, model: str) -> None:
    theirs, ours, knobs = pair(MODELS[model], randomised)
    published = theirs.state_dict()
    again = LAYOUT.to_published(ours.state_dict(), knobs)
    assert again.keys() == published.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in published.items())
    assert all(
        again[key].shape == tensor.shape and again[key].dtype == tensor.dtype for key, tensor in published.items()
    )
    assert ours.spec.scale == (MODELS[model]["scaling_factor"],) * MODELS[model]["latent_channels"]


VITS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
# what the published configs of two families say beside the defaults
F32_SANA = {
    "encoder_block_types": VITS,
    "decoder_block_types": VITS,
    "downsample_block_type": "Conv",
    "upsample_block_type": "interpolate",
}
F32_IMAGENET = {
    "encoder_block_types": VITS,
    "decoder_block_types": VITS,
    "encoder_layers_per_block": (0, 4, 8, 2, 2, 2),
    "decoder_layers_per_block": (0, 5, 10, 2, 2, 2),
    "encoder_qkv_multiscales": ((),) * 6,
    "decoder_qkv_multiscales": ((),) * 6,
    "decoder_norm_types": ("batch_norm",) * 3 + ("rms_norm",) * 3,
    "decoder_act_fns": ("relu",) * 3 + ("silu",) * 3,
}


@pytest.mark.parametrize("published", [F32_SANA, F32_IMAGENET], ids=["sana", "imagenet"])
def test_its_published_sizes_are_diffusers(published: dict[str, Any]) -> None:
    with torch.device("meta"):
        theirs = AutoencoderDC(**published)
        knobs = LAYOUT.knobs(dict(theirs.config), ())
        ours = DeepCompressionAE(**knobs)
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in LAYOUT.to_published(ours.state_dict(), knobs).items()} == shapes
    assert (ours.spec.latent_channels, ours.spec.temporal_stride, ours.spec.spatial_stride) == (32, 1, 32)


def test_the_defaults_are_the_model_of_sana() -> None:
    with torch.device("meta"):
        knobs = LAYOUT.knobs(dict(AutoencoderDC(**F32_SANA).config), ())
    defaults = {knob.name: knob.default for knob in VAES.knobs("dc")}
    assert {name: defaults[name] for name in knobs if name != "latent_scale"} == {
        name: value for name, value in knobs.items() if name != "latent_scale"
    }


@torch.no_grad()
def test_it_is_deterministic(randomised) -> None:
    _, vae, _ = pair(SANA, randomised)
    posterior = vae.encode(torch.randn(2, 3, 3, 8, 12, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(posterior.sample(torch.Generator().manual_seed(2)), posterior.mode())
    assert torch.equal(posterior.kl(), torch.zeros(2))


@torch.no_grad()
def test_no_frame_sees_another(randomised) -> None:
    _, vae, _ = pair(SANA, randomised)
    video = torch.randn(1, 3, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    changed = video.clone()
    changed[:, :, 2] += 1
    latents, moved = vae.encode(video).mode(), vae.encode(changed).mode()
    assert touched(latents, moved) == [2]
    assert touched(vae.decode(latents), vae.decode(moved)) == [2]


def touched(before: Tensor, after: Tensor) -> list[int]:
    return (before - after).abs().amax((0, 1, 3, 4)).gt(1e-5).nonzero().flatten().tolist()


@pytest.mark.parametrize("frames", [1, 5, 17])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, frames: int) -> None:
    _, vae, _ = pair(SANA, randomised)
    video = torch.randn(2, 3, frames, 8, 12, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"encoder_blocks": (1, 1)}, "have 6, 2, 6, 6 values: give one for each level"),
        ({"decoder_blocks": (3, 0, 3, 3, 3, 3)}, "only the first level may have 0"),
        ({"encoder_attention": 7}, "encoder_attention=7 of 6 levels: give 0 to 6"),
        ({"head_dim": 48}, "512 channels do not split into heads of head_dim=48"),
        ({"qkv_scales": (4,)}, r"qkv_scales=\(4,\): .* use odd sizes"),
        ({"latent_channels": 48}, "encoder_shortcut: 1024 channels do not split into 48 groups"),
        ({"encoder_widths": (128, 256, 768, 512, 1024, 1024)}, "a downsampler: 1024 channels .* multiple of 768"),
        ({"decoder_widths": (96, 256, 512, 512, 1024, 1024)}, "an upsampler: 384 channels .* multiple of 256"),
    ],
)
def test_knobs_that_do_not_fit_are_refused(knobs: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        DeepCompressionAE(**knobs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 1}, "in_channels=1"),
        (
            {"encoder_block_types": ("EfficientViTBlock", "ResBlock", "ResBlock")},
            "only ResBlock, then EfficientViTBlock",
        ),
        ({"encoder_qkv_multiscales": ((), (), (3,))}, "other scales on other levels"),
        ({"decoder_norm_types": ["batch_norm", "rms_norm", "rms_norm"]}, "on all levels"),
        ({"decoder_norm_types": "layer_norm"}, "layer_norm"),
    ],
)
def test_a_config_that_is_not_implemented_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYOUT.knobs(SANA | change, ())

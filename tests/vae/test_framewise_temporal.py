"""Open-Sora 1.2's autoencoder: its half in time equals the published one, its half in 2D diffusers' AutoencoderKL."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from videogen.checkpoints.layouts.opensora_vae import LAYOUT
from videogen.vae import VAES
from videogen.vae.framewise_temporal import FramewiseTemporalVAE

FRAMES = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TINY: dict[str, Any] = {
    "base_channels": 8,
    "num_res_blocks": 1,
    "temporal_channels": 8,
    "temporal_res_blocks": 1,
    "norm_groups": 4,
}


class Published(NamedTuple):
    """Our part with the weights of a published one, that one's tensors, and what went in and came out."""

    vae: FramewiseTemporalVAE
    weights: dict[str, Tensor]
    knobs: dict[str, Any]
    frames: AutoencoderKL
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@pytest.fixture(scope="module")
def published(golden, randomised) -> Published:
    in_time, weights, inputs, outputs = golden("hpc_vae_temporal_v1_2")
    frames = randomised(AutoencoderKL(**FRAMES))
    config = {
        "vae_2d": {"type": "VideoAutoencoderKL", **FRAMES},
        "vae_temporal": in_time,
        "micro_frame_size": 17,
        "shift": [-0.10, 0.34, 0.27, 0.98],
        "scale": [3.85, 2.32, 2.33, 3.06],
    }
    tensors = {f"temporal_vae.{key}": value for key, value in weights.items()}
    tensors |= {f"spatial_vae.module.{key}": value for key, value in frames.state_dict().items()}
    knobs = LAYOUT.knobs(config, tensors)
    vae = FramewiseTemporalVAE(**knobs).eval()
    buffers = {name: torch.tensor(config[name]).view(1, 4, 1, 1, 1) for name in ("shift", "scale")}
    vae.load_state_dict(LAYOUT.to_ours(tensors | buffers, vae, knobs))
    return Published(vae, tensors, knobs, frames, inputs, outputs)


@pytest.mark.parametrize("frames", [17, 1])
@torch.no_grad()
def test_the_half_in_time_equals_the_published_one(published: Published, distance, frames: int) -> None:
    temporal, outputs = published.vae.temporal, published.outputs
    moments = temporal.encode(published.inputs[f"x_{frames}"])
    # the same operations in the same order: no difference was measured where both ran on the same processor
    assert distance(moments, outputs[f"moments_{frames}"]) < 1e-5
    assert distance(temporal.decode(outputs[f"mean_{frames}"], frames), outputs[f"rec_{frames}"]) < 1e-5


@torch.no_grad()
def test_whole_strides_need_no_padding(published: Published, distance) -> None:
    decoded = published.vae.temporal.decode(published.inputs["z_12"], 12)
    assert distance(decoded, published.outputs["dec_12"]) < 1e-5


@pytest.mark.parametrize(("lengths", "latent_lengths"), [((1,), (1,)), ((17, 5), (5, 2)), ((17, 17), (5, 5))])
@torch.no_grad()
def test_clips_of_17_frames_go_through_both_halves_alone(
    published: Published, distance, lengths: tuple[int, ...], latent_lengths: tuple[int, ...]
) -> None:
    vae, frames = published.vae, published.frames
    video = torch.randn(2, 3, sum(lengths), 8, 12, generator=torch.Generator().manual_seed(1))
    posterior = vae.encode(video)
    per_frame = torch.stack([frames.encode(frame).latent_dist.mean for frame in video.unbind(2)], 2) * 0.18215
    moments = torch.cat([vae.temporal.encode(clip) for clip in per_frame.split(lengths, dim=2)], 2)
    assert distance(torch.cat([posterior.mean, posterior.logvar], 1), moments) < 1e-5
    assert posterior.mode().shape[1:] == vae.spec.latent_shape(*video.shape[2:])

    clips = zip(posterior.mode().split(latent_lengths, dim=2), lengths, strict=True)
    latents = torch.cat([vae.temporal.decode(clip, length) for clip, length in clips], 2) / 0.18215
    decoded = torch.stack([frames.decode(frame).sample for frame in latents.unbind(2)], 2)
    assert distance(vae.decode(posterior.mode()), decoded) < 1e-5


def test_its_tensors_go_back_by_their_published_names(published: Published) -> None:
    back = LAYOUT.to_published(published.vae.state_dict(), published.knobs)
    assert back.keys() == published.weights.keys()
    assert all(torch.equal(back[key], value) for key, value in published.weights.items())


def test_the_published_config_says_the_defaults_and_how_to_scale() -> None:
    config = {
        "vae_2d": {"type": "VideoAutoencoderKL", "subfolder": "vae", "micro_batch_size": 4},
        "vae_temporal": {"type": "VAE_Temporal_SD", "from_pretrained": None},
        "micro_frame_size": 17,
        "shift": [-0.10, 0.34, 0.27, 0.98],
        "scale": [3.85, 2.32, 2.33, 3.06],
    }
    knobs = LAYOUT.knobs(config, ())
    defaults = {knob.name: knob.default for knob in VAES.knobs("framewise_temporal")}
    assert {name for name, value in knobs.items() if defaults[name] != value} == {"latent_shift", "latent_scale"}
    assert knobs["latent_shift"] == (-0.10, 0.34, 0.27, 0.98)
    assert knobs["latent_scale"] == pytest.approx((0.259740, 0.431034, 0.429185, 0.326797), abs=1e-6)
    with pytest.raises(ValueError, match="activation_fn='relu': only 'swish' is known here"):
        LAYOUT.knobs({**config, "vae_temporal": {"type": "VAE_Temporal_SD", "activation_fn": "relu"}}, ())


def test_its_size_is_the_published_one() -> None:
    """309.69M parameters in time, as the published class has, and the 83.65M of Stable Diffusion's autoencoder."""
    with torch.device("meta"):
        vae = FramewiseTemporalVAE()
    assert sum(p.numel() for p in vae.temporal.parameters()) == 309_687_144
    assert sum(p.numel() for p in vae.parameters()) == 309_687_144 + 83_653_863


@pytest.mark.parametrize("frames", [1, 5, 6, 15])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, frames: int) -> None:
    vae = randomised(FramewiseTemporalVAE(**TINY, micro_frames=5, channel_multipliers=(1, 2)))
    video = torch.randn(2, 3, frames, 4, 6, generator=torch.Generator().manual_seed(1))
    latents = vae.encode(video).mode()
    decoded = vae.decode(latents)
    assert decoded.shape == video.shape
    for size in (1, 2, 4):
        assert distance(streamed(vae.encode_stream, video, size), latents) < 1e-5
        assert distance(streamed(vae.decode_stream, latents, size), decoded) < 1e-5


def test_frames_that_do_not_fit_the_last_clip_are_refused(streamed) -> None:
    vae = FramewiseTemporalVAE(**TINY, micro_frames=5, channel_multipliers=(1, 2))
    video = torch.zeros(1, 3, 14, 4, 6)
    with pytest.raises(ValueError, match=r"14 frames, in clips of 5, .* stride of 4: use 11 or 15$"):
        vae.encode(video)
    with pytest.raises(ValueError, match=r"4 frames .* temporal stride of 4: use 1 or 5$"):
        streamed(vae.encode_stream, video, 2)


@torch.no_grad()
def test_no_clip_sees_another(randomised) -> None:
    vae = randomised(FramewiseTemporalVAE(**TINY, micro_frames=5, channel_multipliers=(1, 2)))
    video = torch.randn(1, 3, 10, 4, 6, generator=torch.Generator().manual_seed(1))
    changed = video.clone()
    changed[:, :, 7] += 1
    moved = (vae.encode(video).mode() - vae.encode(changed).mode()).abs().amax((0, 1, 3, 4))
    assert moved[:2].max() == 0
    assert moved[2:].min() > 0


@pytest.mark.parametrize("micro_frames", [1, 5, 17])
def test_every_number_of_latents_comes_from_one_length(micro_frames: int) -> None:
    with torch.device("meta"):
        spec = FramewiseTemporalVAE(**TINY, micro_frames=micro_frames).spec
    valid = []
    for frames in range(1, 60):
        try:
            valid.append(spec.latent_shape(frames, 8, 8)[1])
        except ValueError as error:
            below, above = (int(word) for word in str(error).rpartition("use ")[2].split(" or "))
            assert below < frames < above
            spec.latent_shape(below, 8, 8), spec.latent_shape(above, 8, 8)
    assert valid == list(range(1, len(valid) + 1))


def test_a_whole_clip_is_one_without_micro_frames(randomised) -> None:
    vae = randomised(FramewiseTemporalVAE(**TINY, micro_frames=0, channel_multipliers=(1, 2)))
    assert vae.spec.latent_shape(21, 8, 8) == (4, 6, 4, 4)
    with pytest.raises(ValueError, match="set micro_frames=17"):
        next(vae.encode_stream(torch.zeros(1, 3, 5, 4, 4).split(1, dim=2)))


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"micro_frames=16 is not 1 \+ k \* 4: use 13 or 17, or 0"):
        FramewiseTemporalVAE(**TINY, micro_frames=16)
    with pytest.raises(ValueError, match="has 3 values for 2 temporal_multipliers: give 1"):
        FramewiseTemporalVAE(**TINY, temporal_multipliers=(1, 2))
    with pytest.raises(ValueError, match="give at least 1"):
        FramewiseTemporalVAE(**TINY, channel_multipliers=())
    with pytest.raises(ValueError, match="12 channels do not split into norm_groups=8"):
        FramewiseTemporalVAE(temporal_channels=12, base_channels=8, norm_groups=8)


def test_the_latent_frame_of_a_frame_and_the_frames_of_a_latent_one() -> None:
    spec = VAES.build("framewise_temporal", **TINY, micro_frames=5).spec
    # the clips are the frames 0 to 4 and 5 to 9, each of which begins with a frame that stands alone
    assert [spec.latent_place(frame) for frame in range(10)] == [0, 1, 1, 1, 1, 2, 3, 3, 3, 3]
    assert [tuple(spec.frames_of(place)) for place in range(4)] == [(0,), (1, 2, 3, 4), (5,), (6, 7, 8, 9)]

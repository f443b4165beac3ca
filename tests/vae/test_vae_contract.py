"""Every registered autoencoder keeps the contract of `VideoVAE`: registering a part is writing these tests."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.bounded import on_meta
from videogen.vae import VAES, VAESpec, _convolution, _taps
from videogen.vae._deterministic import Deterministic
from videogen.vae._posterior import DiagonalGaussian

# the smallest knobs of the parts that need more than fewer channels and blocks
TINY: dict[str, dict[str, Any]] = {
    "allegro": {
        "base_channels": 4,
        "channel_multipliers": (1, 2),
        "num_res_blocks": 1,
        "time_downsample": (True, True),
        "time_upsample": (True, True),
        "norm_groups": 2,
        "tile": (0, 0, 0),
        "overlap": (0, 0, 0),
    },
    "causal3d": {"base_channels": 8, "norm_groups": 4, "num_res_blocks": 1},
    "cogvideox": {"base_channels": 8, "norm_groups": 4, "num_res_blocks": 1},
    "dc": {
        "latent_channels": 4,
        "encoder_widths": (8, 8, 16),
        "encoder_blocks": (1, 1, 1),
        "decoder_widths": (8, 8, 16),
        "decoder_blocks": (1, 1, 1),
        "encoder_attention": 1,
        "decoder_attention": 1,
        "head_dim": 4,
    },
    "framewise_temporal": {
        "base_channels": 8,
        "channel_multipliers": (1, 1),
        "num_res_blocks": 1,
        "temporal_channels": 8,
        "temporal_res_blocks": 1,
        "norm_groups": 4,
        "micro_frames": 0,
    },
    "magvit": {"base_channels": 8, "norm_groups": 4, "num_res_blocks": 1, "micro_frames": 0},
    "hunyuan": {"base_channels": 8, "norm_groups": 4, "num_res_blocks": 1},
    "framewise": {"base_channels": 8, "norm_groups": 4, "num_res_blocks": 1},
    "ltx": {
        "latent_channels": 4,
        "patch_size": 2,
        "encoder_widths": (4, 8, 8),
        "encoder_blocks": (1, 1, 1),
        "downsamplers": ("conv", "conv"),
        "decoder_widths": (4, 8, 8),
        "decoder_blocks": (1, 1, 1),
        "upsamplers": (True, True),
    },
    "mochi": {
        "latent_channels": 4,
        "encoder_widths": (4, 4, 8, 8),
        "decoder_widths": (4, 8, 4, 8),
        "num_res_blocks": (1, 1, 1, 1, 1),
        "head_dim": 2,
        "norm_groups": 2,
    },
    "vqvae": {"base_channels": 8, "num_res_blocks": 1, "latent_channels": 6, "codebook_size": 16},
    "wan": {"base_channels": 4, "num_res_blocks": 1},
    "wavelet": {"base_channels": 8, "encoder_flow": 8, "num_res_blocks": 1},
}
SMALL = {"base_channels": 32, "num_res_blocks": 1}


@pytest.fixture(params=VAES.names(), scope="module")
def vae(request, randomised):
    known = {knob.name for knob in VAES.knobs(request.param)}
    knobs = TINY.get(request.param, {name: value for name, value in SMALL.items() if name in known})
    return randomised(VAES.build(request.param, **knobs))


def clip_size(spec: VAESpec, steps: int = 2) -> tuple[int, int, int]:
    """(T, H, W) of a small clip of `steps` temporal strides that has no two sides alike."""
    frames = spec.fitting_length(int(spec.first_frame_alone) + steps * spec.temporal_stride)
    return frames, 2 * spec.spatial_stride, 3 * spec.spatial_stride


def frame_step(spec: VAESpec) -> int:
    """Frames that a clip grows by: a temporal stride, or a batch of some."""
    return spec.fitting_length(int(spec.first_frame_alone) + 1) - int(spec.first_frame_alone)


def clip(spec: VAESpec, batch: int = 1, steps: int = 2) -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, *clip_size(spec, steps), generator=source) * 2 - 1


@torch.no_grad()
def test_shapes_follow_the_spec(vae) -> None:
    for steps in (0, 1, 2):
        frames, height, width = clip_size(vae.spec, steps)
        if frames:
            latents = vae.encode(torch.zeros(2, 3, frames, height, width)).mode()
            assert latents.shape == (2, *vae.spec.latent_shape(frames, height, width))
            assert vae.decode(latents).shape == (2, 3, frames, height, width)


def test_the_spec_says_how_the_pipeline_scales(vae) -> None:
    assert len(vae.spec.shift) == len(vae.spec.scale) == vae.spec.latent_channels
    assert all(scale > 0 for scale in vae.spec.scale)


@torch.no_grad()
def test_the_posterior_samples_around_its_mode(vae) -> None:
    posterior = vae.encode(clip(vae.spec, batch=2))
    one, same, other = (posterior.sample(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    if isinstance(posterior, Deterministic):
        assert torch.equal(one, posterior.mode())
        return
    assert not torch.equal(one, other)
    draws = torch.stack([posterior.sample(torch.Generator().manual_seed(seed)) for seed in range(64)])
    # the mean of 64 draws strays from the mode by an eighth of a deviation, and seldom by five eighths
    assert ((draws.mean(0) - posterior.mode()).abs() < 5 / 8 * draws.std(0) + 1e-6).float().mean() > 0.999


@torch.no_grad()
def test_kl_is_the_divergence_from_a_standard_normal(vae) -> None:
    posterior = vae.encode(clip(vae.spec, batch=2))
    assert posterior.kl().shape == (2,)
    assert (posterior.kl() >= 0).all()
    if isinstance(posterior, DiagonalGaussian):
        ours = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())
        truth = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
        torch.testing.assert_close(posterior.kl(), truth, rtol=1e-5, atol=1e-5)


def test_a_gradient_reaches_every_parameter(vae) -> None:
    video = clip(vae.spec)
    posterior = vae.encode(video)
    loss = (vae.decode(posterior.sample(torch.Generator().manual_seed(2))) - video).square().mean()
    (loss + 1e-3 * posterior.kl().mean()).backward()
    silent = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    vae.zero_grad()
    assert silent == []


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken by tiny layers too."""
    monkeypatch.setattr(_convolution, "POSITIONS", 0)
    monkeypatch.setattr(_convolution, "ROW_CHANNELS", 1)
    monkeypatch.setattr(_taps, "CHANNELS", 1)


@pytest.mark.usefixtures("short_ways")
def test_the_short_ways_give_the_same_numbers(vae, distance) -> None:
    """Without a gradient layers multiply less and work in place; in float64 the difference is rounding."""
    vae = copy.deepcopy(vae).double()
    video = clip(vae.spec).double()
    latents = vae.encode(video).mode()
    frames = vae.decode(latents)
    with torch.no_grad():
        assert distance(vae.encode(video).mode(), latents) < 1e-11
        assert distance(vae.decode(latents), frames) < 1e-11


@pytest.mark.usefixtures("short_ways")
@torch.no_grad()
def test_the_meta_device_counts_frames_as_the_spec_says(vae) -> None:
    """Memory is planned there, by the same ways."""
    hollow = on_meta(vae)
    for steps in (0, 1, 2, 3):
        size = clip_size(vae.spec, steps)
        if not size[0]:
            continue
        latents = hollow.encode(torch.empty(2, 3, *size, device="meta")).mode()
        assert latents.shape == (2, *vae.spec.latent_shape(*size))
        assert hollow.decode(latents).shape == (2, 3, *size)
        if not vae.whole_clip_only:
            pieces = list(hollow.decode_stream(latents.split(1, dim=2)))
            assert sum(piece.shape[2] for piece in pieces) == size[0]


@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other(vae, distance) -> None:
    batch = clip(vae.spec, batch=3)
    latents = vae.encode(batch).mode()
    video = vae.decode(latents)
    # another batch makes sums in another order: float32's roundings through some hundred layers, 1.02e-5 at most seen
    for i in range(3):
        assert distance(vae.encode(batch[i : i + 1]).mode(), latents[i : i + 1]) < 2e-5
        assert distance(vae.decode(latents[i : i + 1]), video[i : i + 1]) < 2e-5


@torch.no_grad()
def test_a_stream_equals_the_whole_clip_or_refuses(vae, streamed, distance) -> None:
    video = clip(vae.spec, batch=2, steps=3)
    latents = vae.encode(video).mode()
    for stream, given, wanted in (
        (vae.encode_stream, video, latents),
        (vae.decode_stream, latents, vae.decode(latents)),
    ):
        assert distance(streamed(stream, given, given.shape[2]), wanted) < 1e-5
        assert list(stream([])) == []
        for size in (1, 2, 3):
            if vae.whole_clip_only and size >= given.shape[2]:
                continue
            if vae.whole_clip_only:
                with pytest.raises(ValueError, match=re.escape(vae.whole_clip_only)):
                    streamed(stream, given, size)
            else:
                assert distance(streamed(stream, given, size), wanted) < 1e-5


@torch.no_grad()
def test_a_stream_gives_out_as_it_takes_in(vae) -> None:
    """With one step a chunk, no more than two chunks are waiting at any time: memory doesn't grow with the clip."""
    if vae.whole_clip_only:
        return
    video = clip(vae.spec, steps=5)
    latents = vae.encode(video).mode()
    for stream, given, size in (
        (vae.encode_stream, video, frame_step(vae.spec)),
        (vae.decode_stream, latents, frame_step(vae.spec) // vae.spec.temporal_stride),
    ):
        taken = 0

        def counted(chunks: Iterable[Tensor]) -> Iterator[Tensor]:
            nonlocal taken
            for chunk in chunks:
                taken += 1
                yield chunk

        for given_out, _ in enumerate(stream(counted(given.split(size, dim=2)))):
            assert taken - given_out <= 2


def test_a_clip_that_does_not_fit_is_refused_with_the_nearest_that_does(vae) -> None:
    spec = vae.spec
    frames, height, width = clip_size(spec)
    stride, space = frame_step(spec), spec.spatial_stride
    tall = f"height {height + 1} .* use {height} or {height + space}$"
    wide = f"width {width - 1} .* use {width - space} or {width}$"
    with pytest.raises(ValueError, match=tall):
        vae.encode(torch.zeros(1, 3, frames, height + 1, width))
    with pytest.raises(ValueError, match=wide):
        vae.encode(torch.zeros(1, 3, frames, height, width - 1))
    with pytest.raises(ValueError, match=tall):
        next(vae.encode_stream([torch.zeros(1, 3, frames, height + 1, width)]))
    if stride > 1:
        with pytest.raises(ValueError, match=f"{frames + 1} frames .* use {frames} or {frames + stride}$"):
            vae.encode(torch.zeros(1, 3, frames + 1, height, width))
        with pytest.raises(ValueError, match=r"temporal stride"):
            list(vae.encode_stream([torch.zeros(1, 3, frames + 1, height, width)]))
    with pytest.raises(ValueError, match="0 frames"):
        vae.encode(torch.zeros(1, 3, 0, height, width))


def test_channels_that_do_not_fit_are_refused(vae) -> None:
    size, channels = clip_size(vae.spec), vae.spec.latent_channels
    with pytest.raises(ValueError, match="video has 4 channels: give 3"):
        vae.encode(torch.zeros(1, 4, *size))
    with pytest.raises(ValueError, match="video has 1 channels: give 3"):
        next(vae.encode_stream([torch.zeros(1, 1, *size)]))
    wrong = torch.zeros(1, channels + 1, 1, 2, 3)
    with pytest.raises(ValueError, match=f"latents have {channels + 1} channels: this VAE takes {channels}"):
        vae.decode(wrong)
    with pytest.raises(ValueError, match=f"latents have {channels + 1} channels"):
        next(vae.decode_stream([wrong]))


@torch.no_grad()
def test_it_computes_in_the_type_of_its_weights(vae) -> None:
    video = clip(vae.spec)
    for dtype in (torch.bfloat16, torch.float32):
        vae.to(dtype)
        latents = vae.encode(video.to(dtype)).mode()
        assert latents.dtype == vae.decode(latents).dtype == dtype


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((0, 8, 8), "0 frames do not fit a temporal stride of 4: use 1"),
        ((2, 8, 8), "2 frames do not fit a temporal stride of 4: use 1 or 5"),
        ((91, 8, 8), "91 frames do not fit a temporal stride of 4: use 89 or 93"),
        ((5, 7, 8), "height 7 does not fit a spatial stride of 8: use 8"),
        ((5, 0, 8), "height 0 does not fit a spatial stride of 8: use 8"),
        ((5, 8, 20), "width 20 does not fit a spatial stride of 8: use 16 or 24"),
    ],
)
def test_a_spec_names_the_nearest_sizes(size: tuple[int, int, int], message: str) -> None:
    spec = VAESpec(4, 4, 8, first_frame_alone=True, shift=(0.0,) * 4, scale=(1.0,) * 4)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        spec.latent_shape(*size)


def test_a_spec_without_a_lone_first_frame_takes_whole_strides() -> None:
    spec = VAESpec(4, 4, 8, first_frame_alone=False, shift=(0.0,) * 4, scale=(1.0,) * 4)
    assert spec.latent_shape(8, 16, 24) == (4, 2, 2, 3)
    with pytest.raises(ValueError, match=r"2 frames do not fit a temporal stride of 4: use 4$"):
        spec.latent_shape(2, 16, 24)
    with pytest.raises(ValueError, match=r"6 frames do not fit a temporal stride of 4: use 4 or 8$"):
        spec.latent_shape(6, 16, 24)


def test_a_spec_refuses_statistics_of_another_number_of_channels() -> None:
    with pytest.raises(ValueError, match="3 values of shift for 4 latent channels: give 4, or none"):
        VAES.build("wavelet", latent_channels=4, base_channels=8, latent_shift=(0.0,) * 3)

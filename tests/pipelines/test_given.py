"""Frames that are given of a film: their latents and masks are those of the published pipelines."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import CogVideoXImageToVideoPipeline, WanImageToVideoPipeline
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor, nn

import videogen
from videogen.checkpoints.layouts import cogvideox, wan
from videogen.denoiser import Condition
from videogen.dit.known._channels import known_channels
from videogen.pipelines.given import check_blank, given_frames, known_latents, known_mask, within_latents

WAN = {
    "base_dim": 4,
    "z_dim": 6,
    "dim_mult": [1, 1, 2, 2],
    "num_res_blocks": 1,
    "latents_mean": [0.5, -1.0, 0.25, 0.0, 2.0, -0.1],
    "latents_std": [2.0, 0.5, 1.0, 3.0, 0.25, 1.5],
}
COGVIDEOX: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "scaling_factor": 0.7,
}
SIZE = (9, 16, 24)
Translated, Distance = Callable[..., nn.Module], Callable[[Tensor, Tensor], float]


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *SIZE[1:], generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("places", [(0,), (0, -1)])
@torch.no_grad()
def test_known_latents_and_mask_are_those_of_wan(
    randomised: Any, translated: Translated, distance: Distance, places: tuple[int, ...]
) -> None:
    truth = randomised(AutoencoderKLWan(**WAN))
    vae: Any = translated(wan.LAYOUT, truth)
    first, last = pictures(1), pictures(1, seed=1)
    theirs: Any = SimpleNamespace(
        vae=truth,
        vae_scale_factor_temporal=4,
        vae_scale_factor_spatial=8,
        config=SimpleNamespace(expand_timesteps=False),
    )
    _, wanted = WanImageToVideoPipeline.prepare_latents(
        theirs,
        first,
        1,
        num_channels_latents=6,
        height=SIZE[1],
        width=SIZE[2],
        num_frames=SIZE[0],
        dtype=torch.float32,
        device=torch.device("cpu"),
        last_image=last if -1 in places else None,
    )
    given = given_frames(dict(zip(places, (first, last), strict=False)), 1, SIZE)
    condition = Condition(known=known_latents(vae, given, "gray"), known_mask=known_mask(given, vae.spec, 4, "gray"))
    ours = known_channels(torch.zeros(1, 6, 3, 2, 3), condition, 4)
    assert torch.equal(ours[:, :4], wanted[:, :4])
    assert distance(ours, wanted) < 1e-5


@torch.no_grad()
def test_known_latents_are_those_of_cogvideox(randomised: Any, translated: Translated, distance: Distance) -> None:
    truth = randomised(AutoencoderKLCogVideoX(**COGVIDEOX))
    # their posterior is drawn from, ours not: without spread they are the same
    truth.encoder.conv_out.conv.weight[4:] = 0
    truth.encoder.conv_out.conv.bias[4:] = -60
    vae: Any = translated(cogvideox.LAYOUT, truth)
    theirs: Any = SimpleNamespace(
        vae=truth,
        vae_scale_factor_temporal=4,
        vae_scale_factor_spatial=8,
        vae_scaling_factor_image=0.7,
        transformer=SimpleNamespace(config=SimpleNamespace(patch_size_t=None)),
        scheduler=SimpleNamespace(init_noise_sigma=1.0),
    )
    first = pictures(2)
    _, wanted = CogVideoXImageToVideoPipeline.prepare_latents(
        theirs, first, 2, 4, SIZE[0], SIZE[1], SIZE[2], torch.float32, torch.device("cpu"), torch.Generator()
    )
    ours = known_latents(vae, given_frames(first, 2, SIZE), "zeros")
    assert not ours[:, :, 1:].any()
    # float16's smallest spread, e^-30, is what they draw
    assert distance(ours, wanted.transpose(1, 2)) < 1e-5


@pytest.fixture(scope="module")
def causal() -> Any:
    """Strides of 4 in time and 8 in space, the first frame alone."""
    torch.manual_seed(0)
    knobs: dict[str, Any] = {"latent_channels": 4, "base_channels": 8, "encoder_flow": 8, "use_attention": False}
    vae = videogen.build("vae", "wavelet", **knobs, latent_scale=(2.0,), latent_shift=(0.3,))
    assert (vae.spec.temporal_stride, vae.spec.first_frame_alone) == (4, True)
    return vae.eval()


def normed(vae: Any, film: Tensor) -> Tensor:
    latents: Tensor = (vae.encode(film).mode() - vae.spec.shift[0]) * vae.spec.scale[0]
    return latents


@torch.no_grad()
def test_known_latents_and_mask_are_those_of_open_sora_plan(causal: Any) -> None:
    """Pixels times the mask before they are brought to [-1, 1]: black; then what its MaskCompressor does."""
    shown, (frames, height, width) = (0, 2, 3, 8), SIZE
    images = {place: pictures(1, seed=place)[0] for place in shown}
    unknown = torch.ones(1, 1, frames, height, width)
    pixels = torch.zeros(1, 3, frames, height, width)
    for place, image in images.items():
        unknown[:, :, place], pixels[:, :, place] = 0, (image + 1) / 2
    film = 2 * (pixels * (unknown < 0.5)) - 1
    mask = F.interpolate(unknown[0, 0][:, None], (height // 8, width // 8), mode="bilinear")[:, 0][None, None]
    mask = torch.cat([mask[:, :, :1].repeat(1, 1, 4, 1, 1), mask[:, :, 1:]], dim=2)
    mask = mask.view(1, 3, 4, height // 8, width // 8).transpose(1, 2)

    given = given_frames(images, 1, SIZE)
    torch.testing.assert_close(known_latents(causal, given, "black"), normed(causal, film), rtol=0, atol=1e-5)
    # theirs is 1 where the film is to be made, and so is ours inside of the model
    assert torch.equal(1 - known_mask(given, causal.spec, 4, "black").float(), mask)
    nothing = given_frames(None, 2, SIZE)
    assert not known_mask(nothing, causal.spec, 4, "black").any()
    black = normed(causal, -torch.ones(2, 3, *SIZE))
    torch.testing.assert_close(known_latents(causal, nothing, "black"), black)


@torch.no_grad()
def test_images_that_are_encoded_alone_stand_among_zeros(causal: Any) -> None:
    """Open-Sora 2.0 between two frames: each is a still of its own."""
    first, last = pictures(2), pictures(2, seed=1)
    given = given_frames({-1: last, 0: first}, 2, SIZE)
    known = known_latents(causal, given, "zeros")
    torch.testing.assert_close(known[:, :, :1], normed(causal, first[:, :, None]))
    torch.testing.assert_close(known[:, :, 2:], normed(causal, last[:, :, None]))
    assert not known[:, :, 1].any()
    assert known_mask(given, causal.spec, 1, "zeros").tolist() == [[True, False, True]] * 2
    nothing = given_frames(None, 2, SIZE)
    assert not known_latents(causal, nothing, "zeros").any()
    assert not known_mask(nothing, causal.spec, 1, "zeros").any()
    with pytest.raises(ValueError, match=r"image at frame 4: this model can be given the first and the last frame"):
        check_blank(given_frames({4: first}, 2, SIZE), causal.spec, "zeros")


@torch.no_grad()
def test_dynamicrafter_s_image_stands_in_every_frame_or_at_both_ends() -> None:
    torch.manual_seed(0)
    vae = videogen.build(
        "vae", "framewise", base_channels=8, channel_multipliers=(1, 1), norm_groups=4, latent_scale=(0.2,)
    ).eval()
    first, last = pictures(1), pictures(1, seed=1)
    film = given_frames({0: first, -1: last}, 1, SIZE)
    each = [normed(vae, image[:, :, None]) for image in (first, last)]
    repeated = known_latents(vae, given_frames(first, 1, SIZE), "repeat")
    torch.testing.assert_close(repeated, each[0].expand(-1, -1, SIZE[0], -1, -1))
    between = known_latents(vae, film, "zeros")
    torch.testing.assert_close(between[:, :, [0, -1]], torch.cat(each, dim=2))
    assert not between[:, :, 1:-1].any()
    assert known_mask(film, vae.spec, 1, "zeros").tolist() == [[True, *[False] * 7, True]]
    assert known_mask(given_frames(first, 1, SIZE), vae.spec, 1, "repeat").all()
    with pytest.raises(ValueError, match=r"image at frame 8: this model can be given the first frame alone"):
        check_blank(film, vae.spec, "repeat")
    # each frame has latents of its own
    check_blank(given_frames({4: first}, 1, SIZE), vae.spec, "zeros")


def test_images_are_put_in_order_or_refused(causal: Any) -> None:
    one = pictures(1)[0]
    given = given_frames({-1: one, 0: pictures(2)}, 2, SIZE)
    assert (given.places, given.images.shape) == ((0, 8), (2, 2, 3, 16, 24))
    assert torch.equal(given.images[1, 1], one)
    assert given.mask.tolist() == [True, *[False] * 7, True]
    assert given_frames(None, 2, SIZE).places == ()
    with pytest.raises(ValueError, match=r"image at frame 9: give each of the 9 frames at most once"):
        given_frames({9: one}, 1, SIZE)
    with pytest.raises(ValueError, match=r"image at frame -1: give each"):
        given_frames({8: one, -1: one}, 1, SIZE)
    with pytest.raises(ValueError, match=r"shape \(3, 16, 20\) is no frame of a film of 24x16: resize it to"):
        given_frames(one[:, :, :20], 1, SIZE)
    with pytest.raises(ValueError, match="a mask of 3 channels for 4 frames in a latent one: 1 or 4 are known"):
        known_mask(given, causal.spec, 3, "gray")


def test_clips_that_overlap_hold_a_last_frame_in_their_last_latent_one() -> None:
    """Open-Sora 1.3's: more latent frames than strides."""
    knobs = {"latent_channels": 4, "base_channels": 8, "channel_multipliers": (1, 1, 2), "num_res_blocks": 1}
    vae = videogen.build("vae", "magvit", **knobs, norm_groups=4, micro_frames=5).eval()
    given = given_frames({0: torch.rand(3, 8, 8), -1: torch.rand(3, 8, 8)}, 1, (9, 8, 8))
    check_blank(given, vae.spec, "zeros")
    with torch.no_grad():
        latents = known_latents(vae, given, "zeros")
    assert latents.shape == (1, 4, 4, 2, 2)
    assert [bool(frame.any()) for frame in latents[0].unbind(1)] == [True, False, False, True]
    assert known_mask(given, vae.spec, 1, "zeros").tolist() == [[True, False, False, True]]
    # a frame in common is the last of one latent frame and all of the next
    marks = within_latents(torch.arange(9) == 4, vae.spec)
    assert marks.tolist() == [[False] * 4, [False, False, False, True], [True] * 4, [False] * 4]

"""Open-Sora 1.3's autoencoder: equal to the original code, clips that overlap by a frame, streams of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from videogen.checkpoints import Published
from videogen.checkpoints.layouts.opensora_vae_1_3 import LAYOUT
from videogen.checkpoints.published import recognise
from videogen.config import build_part, compose
from videogen.vae import VAES
from videogen.vae.magvit import MagvitVAE

TINY: dict[str, Any] = {
    "latent_channels": 4,
    "base_channels": 8,
    "channel_multipliers": (1, 1, 2),
    "num_res_blocks": 1,
    "norm_groups": 4,
    "micro_frames": 5,
}


class Original(NamedTuple):
    """Our part with the weights of a published one, these, and what went in and came out there."""

    vae: MagvitVAE
    weights: dict[str, Tensor]
    knobs: dict[str, Any]
    config: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@pytest.fixture(scope="module")
def original(golden: Callable[[str], Any]) -> Original:
    config, weights, inputs, outputs = golden("hpc_vae_v1_3")
    assert recognise(config, weights, "the fixture") is LAYOUT
    knobs = LAYOUT.knobs(config, weights)
    vae = MagvitVAE(**knobs, micro_frames=17).eval()
    vae.load_state_dict(LAYOUT.to_ours(weights, vae, knobs))
    return Original(vae, weights, knobs, config, inputs, outputs)


@pytest.mark.parametrize("frames", [1, 5, 21])
@torch.no_grad()
def test_it_equals_the_original(original: Original, distance, frames: int) -> None:
    """21 frames are a clip of 17 and one of 5 with a frame in common; 5 are less than a clip."""
    posterior = original.vae.encode(original.inputs[f"x_{frames}"])
    mean, logvar = original.outputs[f"moments_{frames}"].chunk(2, dim=1)
    assert distance(posterior.mode(), mean) < 1e-5
    assert distance(posterior.logvar, logvar) < 1e-5
    assert distance(original.vae.decode(mean), original.outputs[f"rec_{frames}"]) < 1e-5


def test_gradients_take_the_plain_way_to_the_same_numbers(original: Original, distance) -> None:
    video = original.inputs["x_21"]
    mean = original.vae.encode(video).mode()
    assert mean.requires_grad
    assert distance(mean.detach(), original.outputs["moments_21"].chunk(2, dim=1)[0]) < 1e-5
    assert distance(original.vae.decode(mean).detach(), original.outputs["rec_21"]) < 1e-5


def test_every_tensor_goes_back_as_it_came(original: Original) -> None:
    back = LAYOUT.to_published(original.vae.state_dict(), original.knobs)
    assert back.keys() == original.weights.keys()
    assert all(torch.equal(back[key], value) for key, value in original.weights.items())


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 4), (13, 6), (17, 8)])
@torch.no_grad()
def test_a_stream_equals_the_whole_clip(randomised, streamed, distance, frames: int, latents: int) -> None:
    vae = randomised(VAES.build("magvit", **TINY))
    assert vae.spec.latent_shape(frames, 8, 12) == (4, latents, 2, 3)
    video = torch.randn(2, 3, frames, 8, 12, generator=torch.Generator().manual_seed(1))
    whole = vae.encode(video).mode()
    decoded = vae.decode(whole)
    assert whole.shape == (2, 4, latents, 2, 3)
    assert decoded.shape == video.shape
    for size in (1, 2, 3, 7):
        assert distance(streamed(vae.encode_stream, video, size), whole) < 1e-5
        assert distance(streamed(vae.decode_stream, whole, size), decoded) < 1e-5


def test_the_latent_frame_of_a_frame() -> None:
    spec = VAES.build("magvit", **TINY).spec
    # clips are the frames 0 to 4, 4 to 8 and 8 to 12, of two latent frames each
    places = [spec.latent_place(frame) for frame in range(13)]
    assert places == [0, 1, 1, 1, 1, 3, 3, 3, 3, 5, 5, 5, 5]
    # and the other way round, where the frames in common stand alone too
    assert [tuple(spec.frames_of(place)) for place in range(4)] == [(0,), (1, 2, 3, 4), (4,), (5, 6, 7, 8)]
    whole = VAES.build("magvit", **{**TINY, "micro_frames": 0}).spec
    assert [whole.latent_place(frame) for frame in range(9)] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert whole.latent_shape(9, 8, 12) == (4, 3, 2, 3)


def test_what_does_not_fit_is_refused() -> None:
    vae = VAES.build("magvit", **TINY)
    with pytest.raises(ValueError, match="11 frames do not fit a temporal stride of 4: use 9 or 13"):
        vae.encode(torch.zeros(1, 3, 11, 8, 8))
    with pytest.raises(ValueError, match="the last latent frame is that of a frame in common"):
        vae.decode(torch.zeros(1, 4, 3, 2, 2))
    with pytest.raises(ValueError, match=r"micro_frames=6 is not 1 \+ k \* 4: use 5 or 9"):
        VAES.build("magvit", **{**TINY, "micro_frames": 6})
    with pytest.raises(ValueError, match="micro_frames=1 is all that a clip has in common with the next"):
        VAES.build("magvit", **{**TINY, "micro_frames": 1})
    with pytest.raises(ValueError, match="has 2 levels, but time is halved 2 times: give at least 3"):
        VAES.build("magvit", channel_multipliers=(1, 2))
    whole = VAES.build("magvit", **{**TINY, "micro_frames": 0})
    with pytest.raises(ValueError, match="set micro_frames=17, which encodes each 17 frames alone"):
        list(whole.encode_stream([torch.zeros(1, 3, 5, 8, 8)] * 2))


@pytest.mark.parametrize("preset", ["opensora_1_3", "opensora_1_3_vae"])
def test_a_preset_is_the_release(golden: Callable[[str], Any], preset: str) -> None:
    """As many parameters as docs/vae_v1_3.md says, 259M, and the statistics of the code, as (latents - mean) / std."""
    command, given = ("generate", "prompt=a") if preset == "opensora_1_3" else ("reconstruct", "input=a.mp4")
    node = compose(command, [f"model={preset}", given])["vae"]
    with torch.device("meta"):
        vae = build_part("vae", node)
    assert sum(value.numel() for value in vae.parameters()) == 259_163_811
    asked = {key: value for key, value in node.items() if key != "name"}
    published = LAYOUT.to_published(vae.state_dict(), asked)
    Published(Path(preset), LAYOUT, LAYOUT.knobs({}, published), published).fill(vae, "magvit", asked)
    notes = json.loads((Path(__file__).parent / "fixtures" / "hpc_vae_v1_3" / "config.json").read_text())["notes"]
    mean, std = (torch.tensor(notes["statistics_video"][key]) for key in ("mean", "std"))
    assert torch.allclose(torch.tensor(vae.spec.shift), mean, atol=1e-7)
    assert torch.allclose(torch.tensor(vae.spec.scale), 1 / std, rtol=1e-5)
    # seven clips of 17 frames, with a frame in common
    assert vae.spec.latent_shape(113, 720, 1280) == (16, 35, 90, 160)

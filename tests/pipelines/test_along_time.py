"""Attention along time in windows: against the published fusion, written out window by window, and what it costs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from diffusers.models.attention import FreeNoiseTransformerBlock
from tiny_films import tiny_dit, tiny_pipeline
from torch import Tensor, nn

import videogen
from videogen.denoiser import Condition
from videogen.dit.parts import choose
from videogen.kernels import ATTENTION
from videogen.pipelines.along_time import AlongTime, Fused, layers_along_time
from videogen.pipelines.placing import place_windows, pyramid
from videogen.pipelines.windows import Windowed
from videogen.unet.transformers import RelativeAttention

SDPA = ATTENTION.build("sdpa")
WINDOWS = {"window": 9, "window_overlap": 4, "window_of": "attention"}
#: layers whose frames meet along time alone
FACTORISED = ("[spatial, temporal]*2", "[factorized]*2", "[stdit]*2", "[stdit2]*2")


def dit(layers: str, **knobs: Any) -> Any:
    """Of layers as given, which don't predict zero, as new ones do."""
    torch.manual_seed(0)
    sizes = {"dim": 32, "depth": 2, "num_heads": 2, "patch_size": (1, 1, 1), **knobs}
    sizes["depth"] = 4 if layers.startswith("[spatial") else 2
    position = {"name": "sincos", "time": "rotary"}
    denoiser = videogen.build("denoiser", "dit", 4, 16, choose(position=position), layers=layers, **sizes)
    for parameter in denoiser.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return denoiser.double()


def unet(**knobs: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"base_channels": 8, "channel_multipliers": (1, 2), "num_res_blocks": 1, "attention_levels": (True, False)}
    return videogen.build(
        "denoiser", "unet", 4, 16, SDPA, head_dim=4, first_heads=2, norm_groups=4, zero_init=False, **sizes, **knobs
    ).eval()


@torch.no_grad()
def predicted(denoiser: Any, frames: int, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(1)
    latents, text = torch.randn(2, 4, frames, 2, 3).to(dtype), torch.randn(2, 5, 16).to(dtype)
    out: Tensor = denoiser(latents, torch.tensor([0.3, 0.8], dtype=dtype), Condition(text=text))
    return out


def heads(frames: int, *, batch: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 3, frames, 4, generator=generator, dtype=dtype) for _ in range(3)]


@pytest.mark.parametrize(("length", "stride"), [(4, 1), (5, 2), (8, 2), (16, 4)])
@pytest.mark.parametrize("count", [1, 3, 6])
def test_it_is_the_published_fusion(length: int, stride: int, count: int) -> None:
    frames = length + (count - 1) * stride
    torch.manual_seed(0)
    theirs = FreeNoiseTransformerBlock(12, 3, 4, context_length=length, context_stride=stride).double().eval()
    # what is left of their block is its attention, and the tokens themselves
    theirs.attn2 = None
    for parameter in theirs.ff.parameters():
        nn.init.zeros_(parameter)
    tokens = torch.randn(2, frames, 12, dtype=torch.float64)
    layer, seen = theirs.attn1, theirs.norm1(tokens)
    q, k, v = (project(seen).unflatten(-1, (3, 4)).transpose(1, 2) for project in (layer.to_q, layer.to_k, layer.to_v))
    found = layer.to_out[0](Fused(SDPA, length, length - stride)(q, k, v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(tokens + found, theirs(tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize("frames", [5, 6, 7, 16, 40])
@pytest.mark.parametrize(("length", "overlap"), [(5, 2), (5, 0), (5, 4), (4, 2), (1, 0)])
def test_a_window_counts_most_at_its_centre_and_all_together_one(frames: int, length: int, overlap: int) -> None:
    total, raw = torch.zeros(frames, dtype=torch.float64), torch.zeros(frames, dtype=torch.float64)
    windows = place_windows(frames, length, overlap, pyramid)
    falls = torch.tensor([min(place + 1, length - place) for place in range(length)], dtype=torch.float64)
    for window in windows:
        total[window.start : window.stop] += window.weights
        raw[window.start : window.stop] += falls
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
    for window in windows:
        torch.testing.assert_close(window.weights, falls / raw[window.start : window.stop], rtol=0, atol=1e-12)


def test_three_windows_are_what_each_attends_to_blended() -> None:
    # windows of frames 0 to 4, 2 to 6 and 4 to 8
    q, k, v = heads(9)
    total, weights = torch.zeros_like(q), torch.zeros(9, dtype=torch.float64)
    for start in (0, 2, 4):
        for frame, weight in zip(range(start, start + 5), (1, 2, 3, 2, 1), strict=True):
            scores = torch.einsum("bhc,bhmc->bhm", q[:, :, frame], k[:, :, start : start + 5]) / 2
            total[:, :, frame] += weight * torch.einsum("bhm,bhmc->bhc", scores.softmax(-1), v[:, :, start : start + 5])
            weights[frame] += weight
    torch.testing.assert_close(Fused(SDPA, 5, 3)(q, k, v), total / weights[:, None], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 9), (2, 1, 1, 9), (2, 3, 1, 9), (2, 1, 9, 9), (2, 3, 9, 9)], ids=str)
def test_masks_are_cut_with_the_windows(shape: tuple[int, ...]) -> None:
    q, k, v = heads(9)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.3
    found = Fused(SDPA, 4, 1)(q, k, v, mask=mask)
    whole = (mask[:, None, None] if mask.ndim == 2 else mask).expand(2, 3, 9, 9)
    wanted = torch.zeros_like(q)
    for window in place_windows(9, 4, 1, pyramid):
        there = slice(window.start, window.stop)
        part = SDPA(q[:, :, there], k[:, :, there], v[:, :, there], mask=whole[:, :, there, there])
        wanted[:, :, there] += window.weights[:, None] * part
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_all_frames_hold_stays_in_half_precision_too(dtype: torch.dtype) -> None:
    q, k, v = heads(40, dtype=dtype)
    found = Fused(SDPA, 8, 6)(q, k, torch.ones_like(v))
    torch.testing.assert_close(found, torch.ones_like(v), rtol=0, atol=1e-6)


def test_the_cost_grows_with_the_frames_and_not_with_their_square() -> None:
    pairs: list[int] = []

    def counting(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pairs.append(q.shape[0] * q.shape[2] * k.shape[2])
        return SDPA(q, k, v)

    for frames in (16, 32, 64, 128):
        Fused(counting, 16, 12)(*heads(frames, batch=1))
    # a window for every four frames beyond the first one
    assert pairs == [16 * 16 * count for count in (1, 5, 13, 29)]


@pytest.mark.parametrize("layers", FACTORISED)
def test_a_window_as_long_as_the_film_changes_nothing(layers: str) -> None:
    model = dit(layers)
    whole = predicted(model, 6)
    torch.testing.assert_close(predicted(AlongTime(model, 6, 3), 6), whole, rtol=0, atol=1e-12)
    assert (predicted(AlongTime(model, 4, 3), 6) - whole).abs().max() > 1e-3
    # nothing is left in the model
    assert torch.equal(predicted(model, 6), whole)


# rotations are kept in float32: of frames as far apart they are the same to its precision
@pytest.mark.parametrize("layers", FACTORISED)
def test_windows_that_share_no_frame_are_films_of_their_own(layers: str) -> None:
    model = dit(layers)
    alone = predicted(Windowed(model, 4, 0), 12)
    torch.testing.assert_close(predicted(AlongTime(model, 4, 0), 12), alone, rtol=0, atol=1e-6)


def test_tokens_of_several_latent_frames_take_windows_of_whole_tokens() -> None:
    model = dit(FACTORISED[0], patch_size=(2, 1, 1))
    alone = predicted(Windowed(model, 4, 0), 12)
    torch.testing.assert_close(predicted(AlongTime(model, 4, 0), 12), alone, rtol=0, atol=1e-6)
    for length, overlap in ((5, 2), (4, 1)):
        with pytest.raises(ValueError, match=f"windows of {length} latent frames that overlap by {overlap}: a token"):
            AlongTime(model, length, overlap)


@pytest.mark.parametrize("positions", [0, 3])
def test_the_unet_attends_in_windows(positions: int) -> None:
    model = unet(relative_positions=positions)
    layers = layers_along_time(model)
    assert len(layers) == 2 * sum(name.endswith("attention1") for name, _ in model.named_modules())
    assert {isinstance(layer, RelativeAttention) for layer, _ in layers} == {positions > 0}
    whole = predicted(model, 9, torch.float32)
    torch.testing.assert_close(predicted(AlongTime(model, 9, 3), 9, torch.float32), whole, rtol=0, atol=1e-5)
    assert (predicted(AlongTime(model, 4, 3), 9, torch.float32) - whole).abs().max() > 1e-4
    assert torch.equal(predicted(model, 9, torch.float32), whole)


def test_relative_positions_are_those_within_a_window() -> None:
    torch.manual_seed(0)
    layer = RelativeAttention(12, 3, 2).double()
    q, k, v = heads(9)
    wanted = torch.zeros_like(q)
    for window in place_windows(9, 5, 3, pyramid):
        there = slice(window.start, window.stop)
        wanted[:, :, there] += window.weights[:, None] * layer.attend(q[:, :, there], k[:, :, there], v[:, :, there])
    torch.testing.assert_close(Fused(layer.attend, 5, 3)(q, k, v), wanted, rtol=0, atol=1e-12)


def test_a_model_that_fails_is_left_as_it_was() -> None:
    model = dit(FACTORISED[0])
    kernels = [layer.kernel for layer, _ in layers_along_time(model)]
    with pytest.raises(ValueError, match="latents"):
        AlongTime(model, 4, 2)(torch.zeros(1, 5, 9, 2, 2).double(), torch.zeros(1), Condition())
    assert all(layer.kernel is kernel for (layer, _), kernel in zip(layers_along_time(model), kernels, strict=True))


class Other:
    conditions: frozenset[str] = frozenset()

    def __call__(self, latents: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        return latents


@pytest.mark.parametrize(
    ("denoiser", "why"),
    [
        (tiny_dit(), r"frames also meet in attention of another kind \(Full\)"),
        (dit("[full3d, temporal]"), r"another kind \(Full\)"),
        (dit("[windowed(window=(0,2,2)), temporal]"), r"another kind \(Window\)"),
        (dit("[spatial*2]*2"), "it has none"),
        (Other(), "it has none"),
    ],
    ids=["full3d", "mixed", "windowed", "spatial", "another"],
)
def test_models_whose_frames_meet_elsewhere_are_refused_before_sampling(denoiser: Any, why: str) -> None:
    pipe = tiny_pipeline(denoiser=denoiser)
    with pytest.raises(ValueError, match=f"window_of=attention .*{why}: take window_of=network"):
        pipe("a circle", callback=lambda step, latents: pytest.fail("it sampled"), **WINDOWS)


def test_films_are_made_with_noise_of_the_same_windows() -> None:
    noise = videogen.build("initial_noise", "freenoise")
    pipe = tiny_pipeline(denoiser=dit(FACTORISED[1]).float(), initial_noise=noise)
    films = [pipe("a red circle", seed=3, **{**WINDOWS, "window_of": of}) for of in ("attention", "network")]
    assert films[0].shape == (1, 3, 17, 16, 24)
    for one, other in itertools.combinations([*films, pipe("a red circle", seed=3, **{**WINDOWS, "window": 17})], 2):
        assert (one - other).abs().max() > 1e-4
    together = pipe(["a circle", "a red circle"], seed=[5, 3], **WINDOWS)
    torch.testing.assert_close(together[1], films[0][0], rtol=0, atol=2e-4)

"""The U-Net by itself: what its knobs do, what it takes, what it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from videogen.denoiser import DENOISERS, Condition
from videogen.kernels import ATTENTION
from videogen.unet.layers import Downsample, UNetCondition, Upsample
from videogen.unet.model import UNet
from videogen.unet.transformers import RelativeAttention, SelfAttention

MakeUNet, MakeCondition = Callable[..., UNet], Callable[..., Condition]
EVERYTHING = {
    "use_fps": True,
    "image_attention": True,
    "image_gate": True,
    "image_tokens_per_frame": 2,
    "known_latents": True,
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def row(condition: Condition, index: int) -> Condition:
    """The condition of one sample alone, its text cut to its words."""
    kept = {name: value[index : index + 1] for name, value in condition.given().items()}
    words = int(kept.pop("text_mask").sum())
    return Condition(**{**kept, "text": kept["text"][:, :words]})


def test_a_new_network_predicts_zero_unless_told_otherwise(make_unet: MakeUNet, make_condition: MakeCondition) -> None:
    latents, timestep = torch.randn(2, 3, 2, 4, 6), torch.tensor([1, 999])
    out = make_unet(random=False, **EVERYTHING)(latents, timestep, make_condition(2, latents))
    assert torch.equal(out, torch.zeros_like(latents))
    assert make_unet(random=False, zero_init=False)(latents, timestep, make_condition(2)).any()


@pytest.mark.parametrize("knobs", [{}, {"time_conv": False, "relative_positions": 1}, {"first_heads": 0}, EVERYTHING])
def test_every_parameter_learns(make_unet: MakeUNet, make_condition: MakeCondition, knobs: dict[str, Any]) -> None:
    unet, latents = make_unet(**knobs).train(), torch.randn(2, 3, 3, 4, 6, requires_grad=True)
    condition = make_condition(2, latents.detach() if knobs is EVERYTHING else None)
    unet(latents, torch.tensor([500, 3]), condition).square().sum().backward()
    assert [key for key, value in unet.named_parameters() if value.grad is None or not value.grad.any()] == []
    assert latents.grad is not None
    assert latents.grad.any()


def test_a_padded_batch_equals_its_samples_alone(
    make_unet: MakeUNet, make_condition: MakeCondition, distance: Callable[[Tensor, Tensor], float]
) -> None:
    unet, latents, timestep = make_unet(**EVERYTHING), torch.randn(3, 3, 3, 5, 6), torch.tensor([4, 500, 999])
    condition = make_condition(3, latents)
    with torch.no_grad():
        together = unet(latents, timestep, condition)
        for i in range(3):
            alone = unet(latents[i : i + 1], timestep[i : i + 1], row(condition, i))
            # sums in another order, in float32
            assert distance(together[i : i + 1], alone) < 1e-5


def test_each_condition_matters(make_unet: MakeUNet, make_condition: MakeCondition) -> None:
    unet, latents, timestep = make_unet(**EVERYTHING), torch.randn(1, 3, 3, 4, 4), torch.tensor([500])
    condition = make_condition(1, latents)
    with torch.no_grad():
        out = unet(latents, timestep, condition)
        for name, value in condition.given().items():
            other = ~value if value.dtype == torch.bool else value + 1
            changed = unet(latents, timestep, dataclasses.replace(condition, **{name: other}))
            assert not torch.allclose(changed, out, atol=1e-3), name
        assert not torch.allclose(unet(latents, timestep + 1, condition), out, atol=1e-4)


def test_beyond_the_mask_known_latents_are_zeros(make_unet: MakeUNet, make_condition: MakeCondition) -> None:
    unet, latents, timestep = make_unet(known_latents=True), torch.randn(1, 3, 3, 4, 4), torch.tensor([500])
    condition = dataclasses.replace(make_condition(1), known=torch.randn_like(latents))
    mask = torch.tensor([[True, False, True]])
    zeros = condition.known * mask[:, None, :, None, None]
    # what stands beyond the mask may be anything
    spoilt = condition.known.masked_fill(~mask[:, None, :, None, None], torch.nan)
    with torch.no_grad():
        out = unet(latents, timestep, dataclasses.replace(condition, known=spoilt, known_mask=mask))
        assert torch.equal(out, unet(latents, timestep, dataclasses.replace(condition, known=zeros)))


def test_the_default_fps_stands_in(make_unet: MakeUNet, make_condition: MakeCondition) -> None:
    latents, timestep, condition = torch.randn(2, 3, 1, 4, 4), torch.tensor([5, 6]), make_condition(2)
    told = dataclasses.replace(condition, fps=torch.tensor([12, 12]))
    with torch.no_grad():
        wanted = make_unet(use_fps=True)(latents, timestep, told)
        assert torch.equal(make_unet(use_fps=True, default_fps=12.0)(latents, timestep, condition), wanted)
    with pytest.raises(ValueError, match=r"condition.fps is missing.*or build the model with default_fps"):
        make_unet(use_fps=True)(latents, timestep, condition)


def test_a_timestep_may_be_one_a_frame(make_unet: MakeUNet, make_condition: MakeCondition) -> None:
    """Layers within a frame see that frame's own; without layers along time the frames are alone."""
    latents, condition = torch.randn(2, 3, 3, 4, 4), make_condition(2)
    unet, times = make_unet(), torch.tensor([[5, 500, 900], [3, 3, 7]])
    with torch.no_grad():
        same = unet(latents, torch.tensor([5, 3])[:, None].expand(2, 3), condition)
        assert torch.allclose(same, unet(latents, torch.tensor([5, 3]), condition), atol=1e-5)
        assert not torch.allclose(unet(latents, times, condition), same, atol=1e-2)
        # times in [0, 1] and steps of 0 … 999
        scaled = make_unet(timestep_scale=1000.0)(latents, times / 1000, condition)
        assert torch.allclose(scaled, unet(latents, times, condition), atol=1e-4)


def test_attention_knows_the_distance_of_frames_by_its_tables() -> None:
    """Against the formula of the paper, query by query, in float64; tables of zeros leave plain attention."""
    attention = RelativeAttention(6, 2, positions=2).double()
    plain = SelfAttention(6, 2, ATTENTION.build("reference")).double()
    plain.load_state_dict(attention.state_dict(), strict=False)
    q, k, v = torch.randn(3, 4, 2, 5, 3, dtype=torch.float64)
    got = attention.attend(q, k, v)
    for i in range(5):
        offsets = [max(-2, min(2, j - i)) + 2 for j in range(5)]
        keys, values = k + attention.key_positions[offsets], v + attention.value_positions[offsets]
        weights = torch.softmax((q[:, :, i, None] * keys).sum(-1) / 3**0.5, dim=-1)
        # the weights are rounded to float32
        assert torch.allclose(got[:, :, i], (weights[..., None] * values).sum(2), atol=1e-6)
    for table in (attention.key_positions, attention.value_positions):
        torch.nn.init.zeros_(table)
    tokens = torch.randn(4, 5, 6, dtype=torch.float64)
    assert torch.allclose(attention(tokens), plain(tokens), atol=1e-6)


def test_sizes_come_back_on_the_way_up() -> None:
    down, up = Downsample(4), Upsample(4)
    for size in ((1, 1), (5, 8), (6, 3)):
        x = torch.randn(2, 4, *size)
        halved = down(x)
        assert halved.shape[2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2)
        assert up(halved, size).shape == x.shape


def test_the_kernel_is_the_one_that_was_handed_in(make_condition: MakeCondition, make_unet: MakeUNet) -> None:
    calls = []

    class Counting:
        support = ATTENTION.build("reference").support

        def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None) -> Tensor:
            calls.append((q.shape[0], q.shape[2], k.shape[2], mask is not None))
            return ATTENTION.build("reference")(q, k, v, mask=mask)

    knobs = {"base_channels": 8, "channel_multipliers": (1,), "num_res_blocks": 1, "attention_levels": (True,)}
    unet = DENOISERS.build("unet", 3, 6, Counting(), **knobs, head_dim=4, norm_groups=4)
    unet(torch.randn(2, 3, 3, 2, 5), torch.tensor([1, 2]), make_condition(2))
    # within 3 frames of 10 positions; to 5 words, all frames' queries in one row; along time at each position
    cell = [(6, 10, 10, False), (2, 30, 5, True), (20, 3, 3, False), (20, 3, 3, False)]
    assert calls == [(20, 3, 3, False)] * 2 + cell * 4


# the tests' own checks of shapes can't be captured, so this runs without them
COMPILING = """
import torch
from videogen.denoiser import DENOISERS, Condition
from videogen.kernels import ATTENTION

sizes = {"base_channels": 8, "channel_multipliers": (1, 2), "num_res_blocks": 1, "attention_levels": (True, False)}
sizes |= {"head_dim": 4, "norm_groups": 4, "zero_init": False, "relative_positions": 1}
takes = {"use_fps": True, "image_attention": True, "image_gate": True, "known_latents": True}
unet = DENOISERS.build("unet", 3, 6, ATTENTION.build("sdpa"), **sizes, **takes).eval()
latents, text, timestep = torch.randn(1, 3, 2, 3, 4), torch.randn(1, 5, 6), torch.tensor([7])
known = {"known": latents, "known_mask": torch.tensor([[True, False]])}
condition = Condition(text, torch.tensor([[True] * 3 + [False] * 2]), image=text, fps=timestep, **known)
# this backend runs the graph as it was captured: what is asked is whether it is one
compiled = torch.compile(unet, fullgraph=True, backend="eager")
with torch.no_grad():
    out, wanted = compiled(latents, timestep, condition), unet(latents, timestep, condition)
assert wanted.any()
assert torch.allclose(out, wanted, atol=1e-6)
"""


@pytest.mark.slow
def test_it_compiles_into_one_graph() -> None:
    told = subprocess.run([sys.executable, "-c", COMPILING], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_what_would_be_ignored_or_is_missing_is_refused(make_unet: MakeUNet, make_condition: MakeCondition) -> None:
    latents, timestep = torch.randn(2, 3, 2, 4, 6), torch.tensor([1, 2])
    everything, text = make_condition(2, latents), make_condition(2)
    plain, full = make_unet(), make_unet(**EVERYTHING)
    assert plain.conditions == {"text", "text_mask"}
    for name in ("fps", "image", "known", "known_mask"):
        given = dataclasses.replace(text, **{name: getattr(everything, name)})
        with pytest.raises(ValueError, match=f"unet would ignore condition.{name}: it takes"):
            plain(latents, timestep, given)
    for name in ("text", "fps", "image", "known"):
        with pytest.raises(ValueError, match=rf"condition.{name} is missing and this model needs it: give"):
            full(latents, timestep, dataclasses.replace(everything, **{name: None}))
    for name, value in (("pooled", torch.ones(2, 6)), ("size", torch.ones(2, 2)), ("valid", latents[:, 0] > 0)):
        with pytest.raises(ValueError, match=f"unet would ignore condition.{name}"):
            full(latents, timestep, dataclasses.replace(everything, **{name: value}))


def test_shapes_that_do_not_fit_are_refused(make_unet: MakeUNet, make_condition: MakeCondition) -> None:
    unet, latents, timestep = make_unet(**EVERYTHING), torch.randn(2, 3, 2, 4, 6), torch.tensor([1, 2])
    good = make_condition(2, latents)

    def refused(message: str, latents: Tensor = latents, timestep: Tensor = timestep, **fields: object) -> None:
        with pytest.raises(ValueError, match=message):
            unet(latents, timestep, dataclasses.replace(good, **fields))

    refused(r"\(2, 4, 2, 4, 6\) are not \(B, 3, T, H, W\)", latents=torch.randn(2, 4, 2, 4, 6))
    refused(r"\(2, 3, 0, 4, 6\) are empty", latents=torch.randn(2, 3, 0, 4, 6))
    refused(
        r"timesteps of shape \(2, 3\) fit neither \(B,\) = \(2,\) nor \(B, T\) = \(2, 2\)", timestep=torch.ones(2, 3)
    )
    refused(r"text has the shape \(2, 5, 7\): this model takes \(2, any, 6\)", text=torch.randn(2, 5, 7))
    refused(r"text_mask has the shape \(2, 4\)", text_mask=torch.ones(2, 4, dtype=torch.bool))
    refused(r"text_mask is bool.*pass text_mask.bool\(\)", text_mask=torch.ones(2, 5))
    refused(r"text holds no token", text=torch.randn(2, 0, 6), text_mask=torch.ones(2, 0, dtype=torch.bool))
    refused(r"image has the shape \(2, 4, 7\)", image=torch.randn(2, 4, 7))
    refused(r"fps has the shape \(2, 1\)", fps=torch.ones(2, 1))
    refused(r"known has the shape \(2, 3, 2, 4, 5\)", known=torch.randn(2, 3, 2, 4, 5))
    refused(r"known_mask has the shape \(2, 3\)", known_mask=torch.ones(2, 3, dtype=torch.bool))
    refused(r"known_mask is bool", known_mask=torch.ones(2, 2))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"head_dim": 3}, "8 channels can't be split into heads of 3"),
        ({"norm_groups": 3}, "base_channels 8 can't be normalised in 3 groups"),
        ({"attention_levels": (True,)}, r"attention_levels=\(True,\) for channel_multipliers=\(1, 2, 1\)"),
        ({"channel_multipliers": (), "attention_levels": ()}, "one of each a level"),
        ({"default_fps": 8.0}, "default_fps=8.0 is for use_fps=true"),
        ({"image_gate": True}, "are for image_attention=true"),
        ({"image_tokens_per_frame": 16}, "are for image_attention=true"),
    ],
)
def test_knobs_that_do_not_fit_are_refused(make_unet: MakeUNet, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_unet(**knobs)


def test_the_inner_condition_holds_tokens_as_frames_share_them(
    make_unet: MakeUNet, make_condition: MakeCondition
) -> None:
    unet, latents = make_unet(**EVERYTHING), torch.randn(2, 3, 3, 4, 4)
    condition = make_condition(2, latents)
    inner = unet._condition(torch.tensor([1, 2]), condition, 3)
    assert isinstance(inner, UNetCondition)
    assert inner.time.shape == (2, 1, 32)
    assert inner.image is not None
    # each of 3 frames has its own 2 tokens
    assert torch.equal(inner.image[4], condition.image[1, 2:4])
    shared = dataclasses.replace(condition, image=condition.image[:, :5])
    assert torch.equal(unet._condition(torch.tensor([1, 2]), shared, 3).image, shared.image)

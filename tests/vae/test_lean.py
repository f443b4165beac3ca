"""What layers do without a gradient: the same numbers, in place, and nothing that a gradient needs is overwritten."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae._cogvideox import SpatialNorm, spread
from videogen.vae._layers import CausalConv3d
from videogen.vae._lean import PIXELS, channels_last, few_at_a_time, lean, over_rms, plus, silu
from videogen.vae._levels import GroupNorm
from videogen.vae._streaming import StreamCache


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_where_the_short_ways_are_taken() -> None:
    x = torch.zeros(1, 2, 1, 1, 1)
    assert not lean(x)
    with torch.no_grad():
        assert lean(x)
        assert lean(x.to("meta"))
        assert not lean(x.bfloat16())
        assert not lean(x.half())
    with torch.inference_mode():
        assert lean(x)


@pytest.mark.parametrize("function", [silu, lambda x: plus(x, torch.ones_like(x))], ids=["silu", "plus"])
def test_in_place_without_a_gradient_alone(function) -> None:
    x = random(2, 3)
    before = x.clone()
    made = function(x)
    assert torch.equal(x, before)
    with torch.no_grad():
        assert function(x) is x
    assert torch.equal(x, made)


@torch.no_grad()
def test_over_rms_is_rms_norm() -> None:
    x = random(2, 7, 3, 4, 5)
    x[0, :, 0, 0, 0] = 0
    wanted = F.rms_norm(x.movedim(1, -1), (7,), eps=1e-5).movedim(-1, 1)
    torch.testing.assert_close(over_rms(x, 1e-5), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(over_rms(channels_last(x), 1e-5), wanted, rtol=1e-12, atol=1e-12)


def test_group_norm_is_torchs(randomised) -> None:
    norm, x = randomised(GroupNorm(12, 4)).double(), random(2, 12, 3, 4, 5)
    wanted = nn.GroupNorm.forward(norm, x)
    with torch.no_grad():
        for given in (x, channels_last(x)):
            torch.testing.assert_close(norm(given), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("latents", [1, 2, 3])
def test_a_norm_on_the_grid_of_the_latents_is_that_of_what_is_spread(randomised, latents: int) -> None:
    """A clip of 1 + 4k frames, or a later batch of 4k: a latent frame stands for four frames, but the first for one."""
    norm = randomised(SpatialNorm(8, 4, 4)).double()
    alone = latents % 2
    x, grid = random(2, 8, alone + 4 * (latents - alone), 6, 8), random(2, 4, latents, 3, 2)
    wanted = norm.norm(x) * spread(norm.scale(grid), x) + spread(norm.shift(grid), x)
    torch.testing.assert_close(norm(x, grid), wanted, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(norm(x, grid), wanted, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_channels_stay_last_on_the_way() -> None:
    """A past that is one frame, repeated, has no order in memory: put in front, it must not undo that of the clip."""
    conv, cache = CausalConv3d(4, 6), StreamCache()
    for frames in (1, 2, 8):
        x = conv(torch.randn(2, 4, frames, 36, 36), cache)
        assert x.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(("training", "groups"), [(False, [2, 2, 1]), (True, [5])], ids=["eval", "training"])
def test_images_go_through_a_few_at_a_time(training: bool, groups: list[int]) -> None:
    """But not where a half may have norms over all of them, or with a gradient, which keeps everything anyway."""
    seen: list[int] = []
    half = nn.Conv2d(3, 4, 1).double().train(training)
    half.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    images = random(5, 3, 2, 2)
    wanted = half(images)
    with torch.no_grad():
        torch.testing.assert_close(few_at_a_time(half, images, PIXELS // 2), wanted)
    assert seen == [5, *groups]
    few_at_a_time(half, images, PIXELS // 2)
    assert seen == [5, *groups, 5]

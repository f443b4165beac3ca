"""Convolutions that multiply less, beside torch's own: equal but for rounding, at odd sizes too."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videogen.vae import _convolution, _doubling, _taps
from videogen.vae._convolution import Conv2d, Conv3d
from videogen.vae._doubling import doubled, doubled_in_time
from videogen.vae._layers import FrameConv
from videogen.vae._lean import channels_last
from videogen.vae._taps import along_time

# float64 carries 16 digits, and a sum of some hundred products loses two or three
LIMIT = 1e-12


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def filled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(random(*parameter.shape))
    return module


def plain(conv: Conv3d, x: Tensor) -> Tensor:
    return F.conv3d(x, conv.weight, conv.bias, conv.stride, conv.padding)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 9])
@pytest.mark.parametrize("channels", [(64, 66), (3, 16), (17, 5)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), 1), ((2, 3, 1), 1), ((3, 1, 1), 1), ((3, 3, 3), (1, 2, 2))])
@torch.no_grad()
def test_a_convolution_of_a_clip_equals_torchs(
    monkeypatch, distance, frames: int, channels: tuple[int, int], kernel, stride
) -> None:
    monkeypatch.setattr(_convolution, "POSITIONS", 0)
    conv = filled(Conv3d(*channels, kernel, stride, (0, kernel[1] // 2, kernel[2] // 2)))
    x = random(2, channels[0], frames + kernel[0] - 1, 7, 10)
    wanted = plain(conv, x)
    assert distance(conv(x), wanted) < LIMIT
    # a pair at a time
    monkeypatch.setattr(_taps, "BLOCK", 1)
    assert distance(conv(channels_last(x)), wanted) < LIMIT
    # the meta device, where memory is planned, must tell what the run would make
    hollow = copy.deepcopy(conv).to("meta")(x.to("meta"))
    assert hollow.shape == wanted.shape
    assert hollow.stride() == conv(x).stride()


@pytest.mark.parametrize("size", [(1, 4), (2, 3), (7, 5), (8, 8)])
@torch.no_grad()
def test_a_convolution_of_images_equals_torchs(monkeypatch, distance, size: tuple[int, int]) -> None:
    """By rows as by channels that lie last; what `by_rows` isn't made for goes past it."""
    monkeypatch.setattr(_convolution, "POSITIONS", 0)
    monkeypatch.setattr(_convolution, "ROW_CHANNELS", 16)
    images = random(2, 16, *size)
    for knobs in ({"padding": 1}, {"padding": 1, "bias": False}, {"padding": 1, "groups": 2}, {"padding": 2}):
        conv = filled(Conv2d(16, 18, 3, **knobs))
        assert distance(conv(images), nn.Conv2d.forward(conv, images)) < LIMIT


@torch.no_grad()
def test_two_frames_at_once_round_little(distance) -> None:
    """float32, of 64 channels, beside float64: images whose channels lie last err by 1e-6, clips in torch by 5e-7."""
    conv = filled(Conv3d(64, 64, 3, padding=(0, 1, 1))).float()
    x = random(1, 64, 6, 48, 48).float()
    made = conv(x).double()
    assert distance(made, plain(conv.double(), x.double())) < 1.5e-6


@torch.no_grad()
def test_a_convolution_of_frames_equals_torchs(distance) -> None:
    for stride, kernel in ((1, 3), (2, 3), (1, 1)):
        conv = filled(FrameConv(5, 6, kernel, stride, padding=kernel // 2))
        x = random(2, 5, 3, 8, 9)
        wanted = torch.stack([nn.Conv2d.forward(conv, frame) for frame in x.unbind(2)], dim=2)
        assert distance(conv(x), wanted) < LIMIT


@pytest.mark.parametrize("border", ["constant", "replicate"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 7)])
@torch.no_grad()
def test_doubling_equals_nearest_neighbours_and_a_convolution(
    monkeypatch, distance, border: str, size: tuple[int, int]
) -> None:
    images, weight, bias = random(2, 5, *size), random(4, 5, 3, 3), random(4)
    large = F.interpolate(images, scale_factor=2, mode="nearest")
    wanted = F.conv2d(F.pad(large, (1, 1, 1, 1), mode=border), weight, bias)
    assert distance(doubled(images, weight, bias, border), wanted) < LIMIT
    # one image at a time, and two rows of it
    for positions in (size[0], 2):
        monkeypatch.setattr(_doubling, "BLOCK", 5 * size[1] * positions)
        assert distance(doubled(channels_last(images), weight, bias, border), wanted) < LIMIT


@pytest.mark.parametrize("frames", [1, 2, 5])
@torch.no_grad()
def test_doubling_in_time_equals_repeated_frames_and_a_convolution(distance, frames: int) -> None:
    x, weight, bias = random(2, 5, frames, 4, 6), random(3, 5, 3, 3, 3), random(3)

    def convolve(images: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(images, kernel, bias, padding=1)

    repeated = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
    with_past = torch.cat([x[:, :, :1]] * 2 + [repeated], dim=2)
    wanted = F.conv3d(with_past, weight, bias, padding=(0, 1, 1))
    assert distance(doubled_in_time(x, weight, bias, convolve), wanted) < LIMIT
    assert distance(along_time(with_past, weight, bias, convolve), wanted) < LIMIT


def test_weights_that_change_in_place_are_followed(distance) -> None:
    """Nothing that was derived from them is kept."""
    conv, x = filled(Conv3d(64, 64, 3, padding=(0, 1, 1))), random(1, 64, 6, 24, 24)
    with torch.no_grad():
        conv(x)
        conv.weight.mul_(-3).add_(0.5)
        assert distance(conv(x), plain(conv, x)) < LIMIT


def test_with_a_gradient_it_is_torchs_own() -> None:
    conv, x = filled(Conv3d(16, 16, 3, padding=(0, 1, 1))), random(1, 16, 6, 16, 16)
    assert torch.equal(conv(x), plain(conv, x))
    conv(x).square().sum().backward()
    assert conv.weight.grad is not None

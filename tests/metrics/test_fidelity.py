"""PSNR and SSIM against their formulas, written out in float64 with loops, and against values known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from videogen.metrics.fidelity import Fidelity, psnr, ssim


def pair(*shape: int, noise: float = 0.1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    a = torch.rand(*shape, generator=source) * 2 - 1
    return a, (a + noise * torch.randn(*shape, generator=source)).clamp(-1, 1)


def ssim_by_loops(a: np.ndarray, b: np.ndarray) -> float:
    """One channel (H, W) in [0, 1], equations 13 to 16 of the paper, a window at a time."""
    weights = np.array(
        [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    )
    weights /= weights.sum()
    c1, c2 = (0.01 * 1.0) ** 2, (0.03 * 1.0) ** 2
    values = []
    for top in range(a.shape[0] - 10):
        for left in range(a.shape[1] - 10):
            x, y = (image[top : top + 11, left : left + 11] for image in (a, b))
            mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
            # the paper's definition, not the difference of moments that the code uses
            var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
            cov = (weights * (x - mean_x) * (y - mean_y)).sum()
            values.append(
                (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
            )
    return float(np.mean(values))


def test_psnr_is_its_formula_in_float64() -> None:
    a, b = pair(3, 5, 7, 9)
    x, y = a.double().numpy(), b.double().numpy()
    assert float(psnr(a, b)) == pytest.approx(10 * np.log10(4 / np.mean((x - y) ** 2)), rel=1e-12)
    each = [10 * np.log10(4 / np.mean((x[:, t] - y[:, t]) ** 2)) for t in range(5)]
    assert psnr(a, b, per_frame=True).tolist() == pytest.approx(each, rel=1e-12)


def test_psnr_of_known_errors() -> None:
    black = torch.full((3, 2, 4, 4), -1.0)
    # the peak itself is 0 dB, a tenth of it 20 dB, one level of 255 is 20 log10(255) = 48.13 dB
    assert float(psnr(black, -black)) == pytest.approx(0.0, abs=1e-12)
    assert float(psnr(black, black + 0.2)) == pytest.approx(20.0, abs=1e-5)
    assert float(psnr(black, black + 2 / 255)) == pytest.approx(48.1308, abs=1e-4)
    assert float(psnr(black, black)) == math.inf
    # the error of the whole clip, not the mean of the frames' decibels: one frame of two is wrong
    half = black.clone()
    half[:, 1] += 0.2
    assert float(psnr(black, half)) == pytest.approx(20 + 10 * math.log10(2), abs=1e-5)
    assert psnr(black, half, per_frame=True).tolist() == pytest.approx([math.inf, 20.0], abs=1e-5)


@pytest.mark.parametrize(("height", "width"), [(11, 11), (13, 16)])
@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_ssim_is_the_papers(height: int, width: int, noise: float) -> None:
    a, b = pair(3, 2, height, width, noise=noise)
    x, y = ((video.double().numpy() + 1) / 2 for video in (a, b))
    each = [np.mean([ssim_by_loops(x[c, t], y[c, t]) for c in range(3)]) for t in range(2)]
    # both in float64; the difference of moments loses a few digits
    assert ssim(a, b, per_frame=True).tolist() == pytest.approx(each, rel=1e-9)
    assert float(ssim(a, b)) == pytest.approx(np.mean(each), rel=1e-9)


def test_ssim_of_known_pairs() -> None:
    a, b = pair(3, 3, 20, 24)
    assert float(ssim(a, a)) == pytest.approx(1.0, abs=1e-12)
    assert float(ssim(a, b)) == pytest.approx(float(ssim(b, a)), rel=1e-12)
    # flat grey 0.5 and 0.7: no structure, so luminance alone remains
    flat = torch.zeros(3, 1, 16, 16)
    expected = (2 * 0.5 * 0.7 + 1e-4) / (0.5**2 + 0.7**2 + 1e-4)
    assert float(ssim(flat, flat + 0.4)) == pytest.approx(expected, abs=1e-7)
    # black and white: c1 / (1 + c1)
    assert float(ssim(flat - 1, flat + 1)) == pytest.approx(1e-4 / 1.0001, rel=1e-6)
    # a pattern and its negative are as unlike as can be
    assert float(ssim(a, -a)) < -0.5
    less, more = (float(ssim(*pair(3, 1, 32, 32, noise=noise))) for noise in (0.05, 0.3))
    assert 0.5 < more < less < 1


@pytest.mark.parametrize("lengths", [(7,), (1, 4, 2), (1,) * 7])
def test_chunks_measure_as_the_whole_clip(lengths: tuple[int, ...]) -> None:
    a, b = pair(3, 7, 13, 16)
    # frames that differ much in quality: means of decibels or of chunks would be far off
    b[:, 3:5] = a[:, 3:5] + 1e-3 * torch.ones(3, 2, 13, 16)
    fidelity = Fidelity()
    for x, y in zip(a.split(lengths, dim=1), b.split(lengths, dim=1), strict=True):
        fidelity.add(x, y)
    assert fidelity.num_frames == 7
    # nothing but the order of sums in float64 differs
    assert fidelity.psnr() == pytest.approx(float(psnr(a, b)), rel=1e-13)
    assert fidelity.ssim() == pytest.approx(float(ssim(a, b)), rel=1e-13)


def test_chunks_that_are_equal_or_cannot_be_compared() -> None:
    a, b = pair(3, 2, 12, 14)
    fidelity = Fidelity()
    for figure in (fidelity.psnr, fidelity.ssim):
        with pytest.raises(ValueError, match="no frames have been compared"):
            figure()
    fidelity.add(a, a)
    assert fidelity.psnr() == math.inf
    assert fidelity.ssim() == pytest.approx(1.0, abs=1e-12)
    for wrong in (b[..., :12], b[:, :1], b[:2]):
        with pytest.raises(ValueError, match="crop to one shape"):
            fidelity.add(a, wrong)
    with pytest.raises(ValueError, match=r"\(12, 12\) can't follow frames of \(12, 14\)"):
        fidelity.add(a[..., :12], b[..., :12])
    with pytest.raises(ValueError, match="smaller than SSIM's window"):
        fidelity.add(a[..., :9], b[..., :9])
    # what was refused doesn't count
    assert (fidelity.num_frames, fidelity.psnr()) == (2, math.inf)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_batches_are_the_clips_one_by_one(measure) -> None:
    a, b = pair(2, 3, 4, 12, 15)
    together = measure(a, b)
    assert together.shape == (2,)
    assert together.tolist() == pytest.approx([float(measure(x, y)) for x, y in zip(a, b, strict=True)], rel=1e-12)
    frames = measure(a[None], b[None], per_frame=True)
    assert frames.shape == (1, 2, 4)
    alone = measure(a[1, :, 2:3], b[1, :, 2:3])
    assert float(frames[0, 1, 2]) == pytest.approx(float(alone), rel=1e-12)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_half_precision_is_measured_as_it_is(measure) -> None:
    a, b = pair(3, 2, 12, 12)
    a, b = a.bfloat16(), b.bfloat16()
    assert float(measure(a, b)) == pytest.approx(float(measure(a.double(), b.double())), rel=1e-12)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_what_cannot_be_compared(measure) -> None:
    a = torch.zeros(3, 2, 16, 16)
    with pytest.raises(ValueError, match=r"\(3, 2, 16, 16\) and \(3, 1, 16, 16\).*crop to one shape"):
        measure(a, a[:, :1])
    for wrong in (torch.zeros(2, 3, 16, 16), torch.zeros(3, 16, 16), torch.zeros(3, 0, 16, 16)):
        with pytest.raises(ValueError, match=r"a video is \(3, T, H, W\)"):
            measure(wrong, wrong)
    if measure is ssim:
        with pytest.raises(ValueError, match="frames of 16x10 are smaller than SSIM's window: use 11 or more"):
            ssim(a[:, :, :10], a[:, :, :10])

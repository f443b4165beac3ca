"""A variance that the network predicts: the steps of diffusers' DDPM, and the loss of its definition."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Generator, Tensor
from torch.distributions import Normal, kl_divergence

from videogen.schedulers.ddpm import DDPM

LEARNED: dict[str, Any] = {"variance": "learned_range", "timestep_spacing": "leading"}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_a_step_equals_diffusers() -> None:
    ours = DDPM(**LEARNED)
    theirs = DDPMScheduler(variance_type="learned_range", clip_sample=False, timestep_spacing="leading")
    theirs.set_timesteps(20)
    theirs.alphas_cumprod, theirs.one = theirs.alphas_cumprod.double(), theirs.one.double()
    sample = draw(2, 3, 2, 4)
    for step, (time, after) in enumerate(pairwise(ours.timesteps(20)[:-1])):
        prediction = draw(2, 6, 2, 4, seed=10 + step)
        prediction[:, 3:] = prediction[:, 3:].clamp(-1, 1)
        noise = draw(2, 3, 2, 4, seed=100 + step)
        source = Generator().manual_seed(100 + step)
        wanted = theirs.step(prediction, int(time), sample, generator=source).prev_sample
        found = ours.step(prediction, time, after, sample, noise)
        # their betas are float32
        torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)
        sample = wanted


def test_it_lies_between_the_fixed_ones() -> None:
    sample, noise, prediction = draw(1, 2, 3), draw(1, 2, 3, seed=1), draw(1, 2, 3, seed=2)
    time, after = torch.tensor(500.0), torch.tensor(480.0)
    for place, fixed in ((-1.0, "fixed_small"), (1.0, "fixed_large")):
        behind = torch.full_like(prediction, place)
        learned = DDPM(**LEARNED).step(torch.cat([prediction, behind], dim=1), time, after, sample, noise)
        torch.testing.assert_close(learned, DDPM(variance=fixed).step(prediction, time, after, sample, noise))


def test_its_loss_is_the_divergence_of_two_steps_and_moves_the_variance_alone() -> None:
    scheduler = DDPM(**LEARNED)
    x0, noise, times = draw(4, 2, 3), draw(4, 2, 3, seed=1), torch.tensor([1, 40, 999, 0])
    sample = scheduler.add_noise(x0, noise, times)
    prediction = draw(4, 4, 3, seed=2).requires_grad_()
    loss = scheduler.variance_loss(prediction, x0, sample, times)
    assert not loss[3].any()
    betas = torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64)
    bars = (1 - betas).cumprod(0)
    for row, time in enumerate(times[:3].tolist()):
        beta, bar, before = betas[time], bars[time], bars[time - 1]
        small = beta * (1 - before) / (1 - bar)
        epsilon, place = prediction[row].chunk(2)
        guess = (sample[row] - (1 - bar).sqrt() * epsilon) / bar.sqrt()
        means = [
            before.sqrt() * beta / (1 - bar) * data + (1 - beta).sqrt() * (1 - before) / (1 - bar) * sample[row]
            for data in (x0[row], guess)
        ]
        learned = torch.exp((place + 1) / 2 * beta.log() + (1 - place) / 2 * small.log())
        wanted = kl_divergence(Normal(means[0], small.sqrt()), Normal(means[1], learned.sqrt())) / math.log(2)
        torch.testing.assert_close(loss[row], wanted)
    (gradient,) = torch.autograd.grad(loss.sum(), prediction)
    assert not gradient[:, :2].any()
    assert gradient[:3, 2:].abs().min() > 0
    # frames that are known stand at time -1 and learn nothing
    frames = torch.tensor([[5, -1, 7]]).expand(4, -1)
    loss = scheduler.variance_loss(prediction.detach()[..., None], x0[..., None], sample[..., None], frames)
    assert torch.isfinite(loss).all()
    assert not loss[:, :, 1].any()
    assert (loss[:, :, [0, 2]] != 0).all()

"""Clips whose frames are partly known: which ones, and what is learnt of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import videogen
from videogen.dit.parts import choose
from videogen.training.known import draw_known
from videogen.training.learners import DenoiserLearner
from videogen.training.settings import TrainSettings


def test_every_kind_of_task_is_drawn_and_never_the_whole_clip() -> None:
    frames = 5
    known = draw_known(4000, frames, 0.8, Generator().manual_seed(0))
    assert not known.all(1).any()
    assert float(known.any(1).float().mean()) == pytest.approx(0.8, abs=0.02)
    rows = known[known.any(1)]
    for task in ([1, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 0, 0, 1], [0, 1, 0, 1, 0]):
        assert (rows == torch.tensor(task, dtype=torch.bool)).all(1).any(), task
    counts = rows.sum(1)
    for count in range(1, frames):
        # a fifth is the first frame alone
        share = 0.8 / (frames - 1) + 0.2 * (count == 1)
        assert float((counts == count).float().mean()) == pytest.approx(share, abs=0.03)
    # nothing is known of an image, and nothing where no share is
    assert not draw_known(100, 1, 1.0, Generator().manual_seed(0)).any()
    assert not draw_known(100, frames, 0.0, Generator().manual_seed(0)).any()


class Seen(torch.nn.Module):
    """Keeps what a learner gives to a denoiser, and what the denoiser says."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self.conditions, self.given = inner, inner.conditions, ()

    def forward(self, latents: Tensor, timestep: Tensor, condition: Any) -> Tensor:
        out = self.inner(latents, timestep, condition)
        self.given = latents, timestep, condition, out.detach()
        return out


def learner(folder: Path, known: str, share: float, objective: Any) -> tuple[DenoiserLearner, Seen]:
    torch.manual_seed(0)
    vae = videogen.build(
        "vae", "wavelet", latent_channels=4, base_channels=8, encoder_flow=8, use_attention=False, num_res_blocks=1
    )
    text = videogen.build("text", "words", vocabulary=("a", "circle", "red"), dim=16, depth=1, num_heads=2)
    knobs = {} if known == "none" else {"mask_channels": 1}
    parts = choose(known={"name": known, **knobs})
    denoiser = videogen.build("denoiser", "dit", 4, 16, parts, dim=32, depth=1, num_heads=2)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    settings = TrainSettings(output=str(folder), batch_size=6, known=share, num_frames=[17], sizes=[[16, 32]])
    seen = Seen(denoiser)
    return DenoiserLearner(vae, seen, text, objective, videogen.build("data", "shapes"), settings), seen


@pytest.mark.parametrize("scheduler", ["rectified_flow", "ddpm"])
def test_what_is_known_is_there_without_noise_and_isn_t_learnt(tmp_path: Path, scheduler: str) -> None:
    objective = videogen.build("scheduler", scheduler, prediction="v")
    trainer, seen = learner(tmp_path, "none", 1.0, objective)
    loss, _ = trainer.loss(0, Generator().manual_seed(0))
    latents, times, _, out = seen.given
    assert times.shape == (6, 5)
    clean = objective.alpha_sigma(times)[1] == 0
    assert clean.any(1).all()
    assert not clean.all(1).any()
    # the noisy frames of a clip are at one time
    assert all(len(row[~mask].unique()) == 1 for row, mask in zip(times, clean, strict=True))
    raw, _ = trainer._batch(0, Generator().manual_seed(0))
    x0 = (raw - trainer.shift) * trainer.scale
    assert torch.equal(latents.movedim(1, 2)[clean], x0.movedim(1, 2)[clean])
    assert not torch.isclose(latents.movedim(1, 2)[~clean], x0.movedim(1, 2)[~clean]).all(-1).any()
    # by hand: clips count alike, known frames don't
    alpha, sigma = (value[:, None, :, None, None].float() for value in objective.alpha_sigma(times))
    noise = (latents - alpha * x0) / sigma.where(sigma > 0, 1.0)
    errors = (out - (alpha * noise - sigma * x0)).square().mean((1, 3, 4))
    wanted = torch.stack([row[~mask].mean() for row, mask in zip(errors, clean, strict=True)]).mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("known", ["concat", "add", "embed"])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_model_that_takes_known_latents_gets_them_beside(tmp_path: Path, known: str, share: float) -> None:
    trainer, seen = learner(tmp_path, known, share, videogen.build("scheduler", "rectified_flow"))
    trainer.loss(0, Generator().manual_seed(0))[0].backward()
    _, times, condition, _ = seen.given
    assert times.shape == (6,)
    raw, _ = trainer._batch(0, Generator().manual_seed(0))
    x0 = (raw - trainer.shift) * trainer.scale
    assert condition.known_mask.any(1).all() == bool(share)
    assert torch.equal(condition.known, x0 * condition.known_mask[:, None, :, None, None])


def test_shares_are_shares(tmp_path: Path) -> None:
    from videogen.training.checks import check_settings

    with pytest.raises(ValueError, match=r"train\.known=1\.5 is a share: give 0 to 1"):
        check_settings(TrainSettings(known=1.5))
    with pytest.raises(ValueError, match=r"train\.part=vae would ignore train\.known=0\.5"):
        check_settings(TrainSettings(part="vae", known=0.5))

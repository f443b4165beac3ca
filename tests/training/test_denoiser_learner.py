"""The denoiser's loss for models that ask for more than text: a size, a text for no text, a variance as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Generator

import videogen
from videogen.dit.parts import choose
from videogen.training.learners import DenoiserLearner
from videogen.training.settings import TrainSettings


@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_a_dropped_text_is_the_model_s_own_and_half_of_the_prediction_is_learnt(tmp_path: Path, dropout: float) -> None:
    torch.manual_seed(0)
    vae = videogen.build(
        "vae", "wavelet", latent_channels=4, base_channels=8, encoder_flow=8, use_attention=False, num_res_blocks=1
    )
    dataset = videogen.build("data", "shapes")
    text = videogen.build("text", "words", vocabulary=("a", "circle", "red"), dim=16, depth=1, num_heads=2)
    parts = choose(position={"name": "sincos", "base": 0, "reference": 32}, pool="none")
    sizes = {"dim": 32, "depth": 1, "num_heads": 2, "learned_sigma": True, "null_tokens": 40}
    denoiser = videogen.build("denoiser", "dit", 4, 16, parts, **sizes)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    settings = TrainSettings(
        output=str(tmp_path),
        batch_size=2,
        text_dropout=dropout,
        num_frames=[5],
        num_frames_weights=[1.0],
        sizes=[[16, 32]],
        sizes_weights=[1.0],
    )
    objective = videogen.build("scheduler", "rectified_flow")
    learner = DenoiserLearner(vae, denoiser, text, objective, dataset, settings)
    loss, _ = learner.loss(0, Generator().manual_seed(0))
    loss.backward()
    assert denoiser.embed.weight.grad is not None
    # nothing is learnt from a sentence that is dropped
    read = any(value.grad is not None and value.grad.any() for value in text.parameters())
    assert read is (dropout == 0.0)
    rows = denoiser.out.weight.grad.unflatten(0, (2, -1)).abs().sum((1, 2))
    assert rows[0] > 0
    assert rows[1] == 0
    # unless the objective asks for it
    chain = videogen.build("scheduler", "ddpm", variance="learned_range")
    denoiser.zero_grad()
    learner = DenoiserLearner(vae, denoiser, text, chain, dataset, settings)
    learner.loss(0, Generator().manual_seed(0))[0].backward()
    rows = denoiser.out.weight.grad.unflatten(0, (2, -1)).abs().sum((1, 2))
    assert (rows > 0).all()
    denoiser.learned_sigma = False
    with pytest.raises(ValueError, match=r"variance=learned_range: set denoiser\.learned_sigma=true"):
        DenoiserLearner(vae, denoiser, text, chain, dataset, settings)

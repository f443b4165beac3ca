"""Where a pipeline computes, and in which precision; `tests/test_on_gpu.py` has the rest, for a machine with a card."""

from __future__ import annotations

import pytest
import torch

import videogen
from videogen.config import ConfigError, compose, find_device
from videogen.metrics.fidelity import psnr

PROMPT = "a red circle moving right"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu", r"device=gpu is none: use auto, cpu or cuda"),
        ("meta", r"device=meta: use auto, cpu or cuda"),
        pytest.param(
            "cuda",
            r"device=cuda: torch sees no graphics card here, use device=cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card"),
        ),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_anything_is_built(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        videogen.pipeline("model=shapes", f"device={name}")


def test_auto_is_a_card_if_there_is_one() -> None:
    assert find_device(compose("generate", [])["device"]).type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_half_precision_holds_the_weights_and_the_film() -> None:
    few = {"seed": 0, "steps": 8}
    pipe = videogen.pipeline("model=shapes", "precision=bfloat16", "device=cpu")
    assert pipe.place == (torch.device("cpu"), torch.bfloat16)
    assert {p.dtype for p in pipe.text.parameters()} == {torch.bfloat16}  # type: ignore[attr-defined]
    assert {p.dtype for p in pipe.vae.parameters()} == {torch.float32}  # type: ignore[attr-defined]
    half = pipe(PROMPT, **few)
    assert half.dtype == torch.float32
    whole = videogen.pipeline("model=shapes", "device=cpu")(PROMPT, **few)
    assert psnr(whole, half).item() > 25


def test_the_image_of_a_task_is_in_the_models_precision_too() -> None:
    first = torch.zeros(3, 64, 64)
    pipe = videogen.pipeline("model=shapes", "precision=float16", "device=cpu", "task=image_to_video", "steps=3")
    film = pipe(PROMPT, image=first, seed=0)
    assert film.isfinite().all()
    assert psnr(film[0, :, :1], first[:, None]).item() > 25

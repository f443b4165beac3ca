"""A pipeline of tiny random parts, for what concerns whole films."""

from __future__ import annotations

from typing import Any

import torch

import videogen
from videogen.dit.parts import choose
from videogen.pipelines.text_to_video import Sampling, TextToVideo


def tiny_pipeline(scheduler: str = "rectified_flow", denoiser: Any = None, **parts: Any) -> TextToVideo:
    """Films of 17 frames of 16x24, 5 latent frames, in 3 steps.

    Args:
        scheduler: a registered one.
        denoiser: in place of a random DiT.
        parts: of the pipeline, in place of its own.
    """
    torch.manual_seed(0)
    objective = videogen.build("scheduler", "rectified_flow", prediction="x0")
    try:
        walk = videogen.build("scheduler", scheduler)
    except TypeError:
        walk = videogen.build("scheduler", scheduler, objective)
    given: dict[str, Any] = {
        "vae": videogen.build(
            "vae", "wavelet", latent_channels=4, base_channels=8, encoder_flow=8, use_attention=False
        ),
        "text": videogen.build("text", "words", vocabulary=("a", "circle", "red"), dim=16, depth=1, num_heads=2),
        "objective": objective,
        "scheduler": walk,
        "sampling": Sampling(num_frames=17, height=16, width=24, steps=3, guidance=2.0),
    }
    return TextToVideo(denoiser=denoiser or tiny_dit(), **{**given, **parts})


def tiny_dit() -> Any:
    """One that was never trained, but doesn't predict zero, as a new one does."""
    sizes = {"dim": 32, "depth": 2, "num_heads": 2, "patch_size": (1, 1, 1)}
    denoiser = videogen.build("denoiser", "dit", 4, 16, choose(), **sizes)
    for parameter in denoiser.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return denoiser

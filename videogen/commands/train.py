"""`videogen train`: build what the config names, train it, and leave a folder that `model=` takes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from videogen.config import build_part, build_parts, export_model, find_device, part_configs
from videogen.training.run import train as run_training
from videogen.training.settings import TrainSettings


def train(config: Mapping[str, Any], label: str = "", *, fresh: Collection[str] = ()) -> Path:
    """Train one part; at the end `<train.output>/model`, which it gives, holds all that generate and reconstruct need.

    Args:
        config: composed for "train".
        label: appended to the run's folder.
        fresh: parts that start from random weights, whatever `weights` says.

    Raises:
        ValueError: settings that contradict each other, weights of another model, or a loss that is no number.
    """
    settings = TrainSettings(**{**config["train"], "output": f"{config['train']['output']}{label}"})
    if settings.part == "denoiser" and config["weights"] is None:
        print(
            "videogen: warning: the VAE has random weights; give those of a trained one, weights=...", file=sys.stderr
        )
    if settings.part == "denoiser" and config["denoiser"].get("learned_sigma") and not _variance_is_learnt(config):
        print(
            "videogen: warning: the variance that the model predicts isn't trained; objective=ddpm "
            "objective.variance=learned_range trains it, denoiser.learned_sigma=false leaves it out",
            file=sys.stderr,
        )
    # the parts' first weights are part of what the seed decides
    torch.manual_seed(settings.seed)
    device = find_device(config["device"])
    parts = build_parts(config, fresh=fresh)
    for module in (parts.vae, parts.denoiser, parts.text):
        module.to(device)
    configs = part_configs(config, {"vae": parts.vae, "denoiser": parts.denoiser, "text": parts.text})
    last = run_training(parts, build_part("data", config["data"]), settings, configs)
    folder = Path(settings.output) / "model"
    # what a denoiser has learnt means nothing without the latents that it was shown
    export_model(config, last, folder, {"vae": parts.vae} if settings.part == "denoiser" else {})
    print(f"trained: model={folder}")
    return folder


def _variance_is_learnt(config: Mapping[str, Any]) -> bool:
    return bool(config["objective"].get("variance") == "learned_range")

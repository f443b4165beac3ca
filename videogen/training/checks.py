"""Which settings of a training run fit together, and which ones the part that learns would ignore."""

from __future__ import annotations

import dataclasses

from videogen.training.settings import TrainSettings

# settings that are one of some words, and those that have a least value
KNOWN = {
    "part": ("vae", "vae_decoder", "text", "denoiser"),
    "precision": ("float32", "bfloat16"),
    "export_precision": ("float32", "float16"),
    "reconstruction": ("l1", "l2"),
}
LEAST = {
    "kl_weight": 0,
    "commitment_weight": 0,
    "perceptual": 0,
    "perceptual_frames": 1,
    "discriminator": 0,
    "discriminator_start": 0,
    "discriminator_channels": 1,
    "workers": 0,
}
VAE = ("vae", "vae_decoder")
# settings that only some parts heed; training the decoder alone logs the terms of the latents, and learns from the rest
HEEDED = {
    **dict.fromkeys(("text_dropout", "known", "cached_clips", "workers", "compile"), ("denoiser",)),
    **dict.fromkeys(("reconstruction", "kl_weight", "commitment_weight"), VAE),
    **dict.fromkeys(("perceptual", "perceptual_model", "perceptual_weights", "perceptual_frames"), VAE),
    **dict.fromkeys(("discriminator", "discriminator_start"), VAE),
    **dict.fromkeys(("discriminator_learning_rate", "discriminator_channels"), VAE),
    **dict.fromkeys(("sizes", "sizes_weights"), (*VAE, "denoiser")),
}


def check_settings(settings: TrainSettings) -> None:
    """Refuse settings that contradict each other, or that the part which learns would ignore.

    Raises:
        ValueError: choices and weights that don't pair up, an unknown word, a number below its least, or a setting of
            another part that differs from its default; each is named.
    """
    for name, known in KNOWN.items():
        if getattr(settings, name) not in known:
            raise ValueError(f"train.{name}={getattr(settings, name)!r} is unknown: choose {' or '.join(known)}")
    for name, least in LEAST.items():
        if getattr(settings, name) < least:
            raise ValueError(f"train.{name}={getattr(settings, name)} is too small: give {least} or more")
    for name in ("text_dropout", "known"):
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"train.{name}={getattr(settings, name)} is a share: give 0 to 1")
    for name in ("num_frames", "sizes"):
        choices, weights = getattr(settings, name), getattr(settings, f"{name}_weights")
        if len(choices) != len(weights) or not choices:
            raise ValueError(
                f"train.{name} has {len(choices)} entries and train.{name}_weights {len(weights)}: give as many"
            )
    _check_heeded(settings)


def _check_heeded(settings: TrainSettings) -> None:
    defaults = dataclasses.asdict(TrainSettings())
    ignored = {
        name: parts
        for name, parts in HEEDED.items()
        if settings.part not in parts and getattr(settings, name) != defaults[name]
    }
    if ignored:
        said = ", ".join(
            f"train.{name}={getattr(settings, name)} (default {defaults[name]!r}, heeded by {' and '.join(parts)})"
            for name, parts in ignored.items()
        )
        raise ValueError(f"train.part={settings.part} would ignore {said}: leave out what another part heeds")

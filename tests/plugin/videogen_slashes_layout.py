"""Checkpoints of another trainer: our VQ-VAE with slashes in its tensors' names, and its own words for the settings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from videogen.checkpoints.layout import Config, Layout


def _recognise(config: Config, keys: Collection[str]) -> bool:
    return config.get("trainer") == "slashes"


def _knobs(config: Config, keys: Collection[str]) -> dict[str, Any]:
    return {
        "latent_channels": config["channels"],
        "codebook_size": config["codes"],
        "base_channels": config["width"],
        "num_res_blocks": config["depth"],
    }


def slashes() -> Layout:
    """What the entry point names: it is called once and gives the family's tables."""
    return Layout(
        kind="vae",
        part="vqvae",
        recognise=_recognise,
        knobs=_knobs,
        renames=lambda _: [(r"\.", "/"), (r"^", "net/")],
    )

"""The registries as Hydra config groups: compose, validate, build. No other floor but the CLI knows Hydra."""

from __future__ import annotations

from videogen.config.building import (
    Parts,
    build_denoiser,
    build_part,
    build_parts,
    build_pipeline,
    build_vae,
    load_part,
    part_configs,
    within_budget,
)
from videogen.config.composing import chosen, compose, expand, label_of
from videogen.config.devices import find_device
from videogen.config.exporting import export_model
from videogen.config.hollow import build_hollow
from videogen.config.schema import COMMANDS, ConfigError

__all__ = [
    "COMMANDS",
    "ConfigError",
    "Parts",
    "build_denoiser",
    "build_hollow",
    "build_part",
    "build_parts",
    "build_pipeline",
    "build_vae",
    "chosen",
    "compose",
    "expand",
    "export_model",
    "find_device",
    "label_of",
    "load_part",
    "part_configs",
    "within_budget",
]

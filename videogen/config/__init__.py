"""The registries as Hydra config groups: compose, validate, build. No other floor but the CLI knows Hydra."""

from __future__ import annotations

from videogen.config.building import Parts, build_part, build_parts, build_pipeline, build_vae, load_part, part_configs
from videogen.config.composing import compose, expand
from videogen.config.exporting import export_model
from videogen.config.schema import COMMANDS, ConfigError

__all__ = [
    "COMMANDS",
    "ConfigError",
    "Parts",
    "build_part",
    "build_parts",
    "build_pipeline",
    "build_vae",
    "compose",
    "expand",
    "export_model",
    "load_part",
    "part_configs",
]

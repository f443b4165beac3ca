"""Checkpoints on disk: one folder a part, `config.json` beside `model.safetensors`, nothing that can run."""

from __future__ import annotations

from videogen.checkpoints.folder import copy_part, load_weights, newest, read_config, save_part, write_folder
from videogen.checkpoints.published import (
    Published,
    is_published,
    load_published,
    read_published,
    save_original,
    save_published,
)

__all__ = [
    "Published",
    "copy_part",
    "is_published",
    "load_published",
    "load_weights",
    "newest",
    "read_config",
    "read_published",
    "save_original",
    "save_part",
    "save_published",
    "write_folder",
]

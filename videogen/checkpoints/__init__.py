"""Checkpoints on disk: one folder a part, `config.json` beside `model.safetensors`, nothing that can run."""

from __future__ import annotations

from videogen.checkpoints.folder import copy_part, load_weights, newest, read_config, save_part, write_folder
from videogen.checkpoints.published import load_published, save_published

__all__ = [
    "copy_part",
    "load_published",
    "load_weights",
    "newest",
    "read_config",
    "save_part",
    "save_published",
    "write_folder",
]

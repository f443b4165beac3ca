"""Checkpoints on disk: one folder a part, `config.json` beside `model.safetensors`, nothing that can run."""

from __future__ import annotations

from videogen.checkpoints.folder import load_weights, newest, save_part, write_folder

__all__ = ["load_weights", "newest", "save_part", "write_folder"]

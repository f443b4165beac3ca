"""A trained model as one folder: `model.yaml` beside the weights of its parts, what `model=<folder>` takes."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from torch import nn

from videogen.checkpoints import copy_part, save_part, write_folder
from videogen.config.building import part_configs, weights_folder
from videogen.config.schema import COMMON, groups, settings_of


def export_model(config: Mapping[str, Any], checkpoint: Path, folder: Path, beside: Mapping[str, nn.Module]) -> None:
    """Put the parts of a checkpoint and those that the training started from into one folder, whole or not at all.

    Args:
        config: composed for "train".
        checkpoint: of the run; has the parts that were trained.
        folder: to write, or to replace.
        beside: parts as they stood beside the trained ones, for want of a checkpoint with random weights.
    """
    sources = [checkpoint, *([weights_folder(config["weights"])] if config["weights"] is not None else [])]
    write_folder(folder, functools.partial(_fill, config, sources, beside))


def _fill(config: Mapping[str, Any], sources: list[Path], beside: Mapping[str, nn.Module], folder: Path) -> None:
    saved, precision = {}, config["train"]["export_precision"]
    for part in ("vae", "denoiser", "text", "vision"):
        source = next((path / part for path in sources if (path / part).is_dir()), None)
        if source is not None:
            copy_part(source, folder / part, precision)
        elif part in beside:
            told = part_configs(config, {part: beside[part]})[part]
            save_part(folder / part, told, beside[part].state_dict(), getattr(torch, precision))
        else:
            continue
        saved[part] = json.loads((folder / part / "config.json").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump(_model(config, saved), sort_keys=False), encoding="utf-8")


def _model(config: Mapping[str, Any], saved: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of model.yaml; what a part was saved with wins, since training sets the scale of a VAE's latents."""
    # not every model has blocks to choose
    parts = {group: _node(config, group) for group in groups("model") if group.split("/")[0] in config}
    for part, told in saved.items():
        parts[part] = {key: value for key, value in told.items() if key in parts[part]}
    model: dict[str, Any] = {"defaults": [{f"override /{group}": node["name"]} for group, node in parts.items()]}
    for group, node in parts.items():
        *sections, last = group.split("/")
        place = model
        for section in sections:
            place = place.setdefault(section, {})
        knobs = {key: value for key, value in node.items() if key != "name"}
        if knobs:
            place[last] = knobs
    # where the weights are is said by the folder itself
    sampling = {key: config[key] for key in settings_of("model") if key != "weights"}
    return {**model, **sampling}


def _node(config: Mapping[str, Any], group: str) -> dict[str, Any]:
    node: Any = config
    for key in group.split("/"):
        node = node[key]
    return {key: value for key, value in node.items() if key not in COMMON.get(group, {})}

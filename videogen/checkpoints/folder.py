"""Saving and loading parts as folders: atomic on disk, strict in what they hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videogen.kinds import KINDS, registry

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder whole or not at all: fill a temporary one beside it, flush it to disk, then rename."""
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    fill(temporary)
    for path in [*temporary.rglob("*"), temporary]:
        _flush(path)
    if folder.exists():
        # rename can't replace a folder that has files: the old one steps aside first
        previous = folder.with_name(f".{folder.name}.previous")
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
        temporary.rename(folder)
        shutil.rmtree(previous)
    else:
        temporary.rename(folder)
    _flush(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_part(
    folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> None:
    """Write `config.json` and `model.safetensors` of one part; floating-point weights are stored as `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n")
    stored = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous() for name, value in state.items()
    }
    save_file(stored, folder / WEIGHTS)


def load_weights(folder: Path, config: Mapping[str, Any], module: nn.Module) -> None:
    """Load a part's weights into a module that was built from `config`, or load nothing and say what doesn't fit.

    Raises:
        ValueError: the folder holds another part, other knobs, other keys or other shapes; each is named.
        FileNotFoundError: a file is missing.
    """
    saved, config = (
        _flat(_with_defaults(told)) for told in (read_config(folder), json.loads(json.dumps(dict(config))))
    )
    differing = sorted(key for key in {*saved, *config} if saved.get(key) != config.get(key))
    if differing:
        said = "; ".join(f"{key}: {saved.get(key)!r} saved, {config.get(key)!r} asked for" for key in differing)
        raise ValueError(
            f"the weights in {folder} are of another model ({said}): choose the same parts, or weights=null"
        )
    state = read_weights(folder)
    expected = module.state_dict()
    missing = sorted(set(expected) - set(state))
    extra = sorted(set(state) - set(expected))
    shapes = sorted(k for k in set(state) & set(expected) if state[k].shape != expected[k].shape)
    if missing or extra or shapes:
        parts = [f"{title} {_some(keys)}" for title, keys in _titles(missing, extra, shapes) if keys]
        raise ValueError(f"the weights in {folder} don't fit this model: {'; '.join(parts)}")
    module.load_state_dict(state)


def _with_defaults(saved: dict[str, Any]) -> dict[str, Any]:
    """A saved config with the defaults of knobs that came later: such weights are what the default stands for."""
    # a config that names no part of ours is left as it is, and found to differ
    if saved.get("kind") not in KINDS or saved.get("name") not in registry(saved["kind"]).names():
        return saved
    # the parts that this one is made of stand in nodes of their own, by kind: dit -> block -> name and knobs
    present = {key: _default_nodes(key) | value for key, value in saved.items() if isinstance(value, dict)}
    nodes = {
        key: {part: _without_kind(_with_defaults({"kind": f"{key}/{part}", **node})) for part, node in value.items()}
        for key, value in present.items()
    }
    defaults = {knob.name: knob.default for knob in registry(saved["kind"]).knobs(saved["name"])}
    return {**json.loads(json.dumps(defaults)), **saved, **nodes}


def _default_nodes(key: str) -> dict[str, Any]:
    """The parts of a DiT that a config saved before there was a choice of them stands for."""
    if key != "dit":
        return {}
    from videogen.dit.parts import DEFAULTS

    return {part: {"name": name} for part, name in DEFAULTS.items()}


def _without_kind(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "kind"}


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested nodes as dotted keys: dit.block.name."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def copy_part(source: Path, folder: Path, precision: str) -> None:
    """Copy a part's folder with its weights stored as `precision`, "float32" or "float16"."""
    if precision not in ("float32", "float16"):
        raise ValueError(f"precision {precision!r} is unknown: choose float32 or float16")
    save_part(folder, read_config(source), read_weights(source), getattr(torch, precision))


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a part's folder; FileNotFoundError if there is none, ValueError as `read_json`."""
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}: it is no checkpoint of a part")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds.

    Raises:
        ValueError: the file is damaged, or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): copy it anew") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, not names and values: copy it anew")
    return content


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a part's folder, as float32.

    Raises:
        ValueError: the file is truncated or no safetensors file.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}: copy the whole folder")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} can't be read ({error}): it is truncated or no safetensors file") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def newest(run: Path) -> Path | None:
    """The latest complete checkpoint `step_*` of a training run, if there is one."""
    steps = sorted(path for path in run.glob("step_*") if path.is_dir())
    return steps[-1] if steps else None


def _titles(missing: list[str], extra: list[str], shapes: list[str]) -> list[tuple[str, list[str]]]:
    return [("missing in the file", missing), ("not in the model", extra), ("of another shape", shapes)]


def _some(keys: list[str], most: int = 4) -> str:
    tail = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + tail

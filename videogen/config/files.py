"""Presets, checkpoints' model.yaml and experiment files: the same format, names and numbers only."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from videogen._signature import type_name
from videogen.config.schema import ConfigError, dotted, registered, unknown
from videogen.kinds import KINDS
from videogen.registry import Knob, fits, nearest

PRESETS = Path(__file__).parent.parent / "conf"
# what Hydra would turn into a call, were it ever asked to
RESERVED = frozenset({"_target_", "_partial_", "_convert_", "_recursive_", "_args_"})


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """One file: which parts and presets it chooses, and the values that it sets.

    Args:
        path: of the file, for messages.
        choices: group -> name, from its defaults list.
        values: all other keys, nested as written.
    """

    path: Path
    choices: Mapping[str, str]
    values: Mapping[str, Any]

    def settings(self, schema: Mapping[str, Knob], choices: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        """Dotted keys and values, each checked; the knobs of a part that it names and that isn't chosen are left out.

        Raises:
            ConfigError: a key that the schema doesn't have, or a value of another type.
        """
        named = [(group, name) for group, name in self.choices.items() if group in choices]
        # a kind of part that the chosen model has no place for
        absent = [group for group in KINDS if group in self.choices and group not in choices]
        other = {dotted(group) for group, name in named if registered(group, name) != choices[group]}
        other |= {dotted(group) for group in absent}
        # a part without knobs is a section too, an empty one
        paths = [*schema, *(f"{dotted(group)}." for group in [*choices, *absent])]
        for key, value in self._walk(self.values, "", paths):
            if any(key == section or key.startswith(f"{section}.") for section in other):
                continue
            if key not in schema:
                raise unknown(key, schema, str(self.path))
            if not fits(value, schema[key].type):
                raise ConfigError(f"{key}={value!r} is not of type {type_name(schema[key].type)} (in {self.path})")
            yield key, value

    def _walk(self, values: Mapping[str, Any], prefix: str, paths: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """The leaves: what stands where no section is."""
        for name, value in values.items():
            key = f"{prefix}{name}"
            if not any(path.startswith(f"{key}.") for path in paths):
                yield key, value
            elif isinstance(value, Mapping):
                yield from self._walk(value, f"{key}.", paths)
            else:
                raise ConfigError(f"{key}={value!r} (in {self.path}) is no mapping: a part is named in `defaults`")


def presets(group: str) -> dict[str, Path]:
    """The presets of a group, "model" or "train", by name."""
    return {path.stem: path for path in sorted((PRESETS / group).glob("*.yaml"))}


def read_preset(group: str, name: str) -> ConfigFile:
    """The preset `name` of conf/`group`.

    Raises:
        ConfigError: no such preset; the nearest is named.
    """
    found = presets(group)
    if name not in found:
        also = ", or give the folder of a checkpoint" if group == "model" else ""
        raise ConfigError(f"no {group} preset is called {name!r}: {nearest(name, found)}{also}")
    return read(found[name])


def read_model(model: str) -> ConfigFile:
    """The preset of that name, or the `model.yaml` of a checkpoint's folder, whose weights are then that folder's.

    Raises:
        ConfigError: neither is there, or the file isn't of the format.
    """
    if not is_folder(model):
        return read_preset("model", model)
    folder = Path(model)
    if not (folder / "model.yaml").is_file():
        raise ConfigError(f"model={model} is no folder with a model.yaml: give that of a trained model, or a preset")
    found = read(folder / "model.yaml")
    return ConfigFile(found.path, found.choices, {**found.values, "weights": str(folder)})


def is_folder(model: str) -> bool:
    """Whether `model` means a folder; a preset's name wins over a folder that happens to lie here."""
    return model not in presets("model") and ("/" in model or Path(model).is_dir())


def read(path: Path) -> ConfigFile:
    """One config file, held to its format; what its keys are is checked later, against the chosen parts.

    Raises:
        ConfigError: it can't be read, or holds more than names and numbers.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # a few lines of aliases of aliases would fill the memory
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ConfigError(f"{path} has YAML aliases (*name), which are refused: write the value itself")
        loaded = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(f"{path} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} is no mapping of keys to values")
    refuse_reserved(loaded, str(path))
    choices = dict(_choice(entry, path) for entry in loaded.pop("defaults", None) or [] if entry != "_self_")
    return ConfigFile(path, choices, {str(key): value for key, value in loaded.items()})


def _choice(entry: Any, path: Path) -> tuple[str, str]:
    if isinstance(entry, dict) and len(entry) == 1:
        ((key, name),) = entry.items()
        group = str(key).removeprefix("override ").strip().removeprefix("/")
        if group.split("/")[0] == "hydra":
            raise ConfigError(f"{group} (in the defaults of {path}) is refused: Hydra itself is not configurable here")
        if isinstance(name, str) and "@" not in group:
            return group, name
    raise ConfigError(f"{entry!r} in the defaults of {path}: each entry reads `override /kind: name`")


def refuse_reserved(value: Any, where: str, key: str = "") -> None:
    """Raise ConfigError when a value, however deep, holds a key that Hydra acts on, or an interpolation."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if str(name) in RESERVED:
                raise ConfigError(f"{inner} (in {where}) is refused: a config names registered parts, it calls nothing")
            if not key and str(name).split(".")[0].split("/")[0].split("@")[0] == "hydra":
                raise ConfigError(f"{inner} (in {where}) is refused: Hydra itself is not configurable here, remove it")
            refuse_reserved(item, where, inner)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            refuse_reserved(item, where, f"{key}[{index}]")
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"{key}={value!r} (in {where}) is refused: nothing is interpolated, write the value itself")

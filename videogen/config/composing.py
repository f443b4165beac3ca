"""From arguments to a validated tree: Hydra's grammar and typed merging between two checks of our own."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from videogen._signature import type_name
from videogen.config import arguments, files, nodes
from videogen.config.arguments import NONE, PRESET_GROUPS, Arguments
from videogen.config.layers import choose, layer_values, read_layers
from videogen.config.schema import (
    ConfigError,
    dotted,
    groups,
    kind_of,
    knobs_of_parts,
    settings_of,
    unknown,
)
from videogen.kinds import registry
from videogen.registry import Knob, fits

COUNTS = frozenset(
    {"num_frames", "height", "width", "steps", "fps", "batch_size", "samples", "chunk", "rounds", "text_tokens"}
)
# torch takes a signed integer of 64 bits
SEEDS = 2**63


def compose(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The validated config of a command, as plain nested dicts.

    Args:
        command: one of `COMMANDS`.
        overrides: as on the command line; the first that isn't `key=value` is the sentence of generate.

    Raises:
        ConfigError: a key or value that no config may hold, with its nearest valid one and the file that has it.
        RegistryError: a part that can't be loaded.
    """
    given = arguments.sort(command, overrides)
    layers = read_layers(command, given.presets, given.verbatim.get("weights"))
    choices = choose(command, layers, given.choices)
    schema = {**settings_of(command), **knobs_of_parts(choices)}
    values = layer_values(command, layers, choices, schema)
    settings = _checked(command, given, schema)
    # OmegaConf can't merge a mapping over None, and over another one it would add up: these replace what was there
    mappings = {key: value for key, _, value in settings if isinstance(value, dict)}
    tree = _merge(schema, choices, values, [f"{key}={text}" for key, text, _ in settings if key not in mappings])
    texts = {key: None if key == "weights" and text == NONE else text for key, text in given.verbatim.items()}
    for key, value in {**mappings, **texts}.items():
        _set(tree, key, value)
    _check(tree, schema)
    return tree


def chosen(command: str, overrides: Sequence[str]) -> set[str]:
    """The groups in which presets, files or overrides choose a part; in all others stands what does by default.

    Raises:
        ConfigError: as `compose`.
    """
    given = arguments.sort(command, overrides)
    layers = read_layers(command, given.presets, given.verbatim.get("weights"))
    return {group for layer in layers.values() for group in layer.choices} | set(given.choices)


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Each combination of the swept values, e.g. `scheduler=ddim,rectified_flow`; texts and paths are never split.

    Raises:
        ConfigError: a value that Hydra's grammar can't read.
    """
    return [list(combination) for combination in itertools.product(*map(_alternatives, overrides))]


def label_of(changed: Sequence[str]) -> str:
    """What tells the files of one combination apart: its own arguments, "" of none."""
    return "".join("_" + re.sub(r"[^\w.=-]+", "-", argument) for argument in changed)


def _alternatives(argument: str) -> list[str]:
    key, _, text = argument.partition("=")
    if arguments.is_verbatim(argument) or os.path.exists(text):
        return [argument]
    override = _parse(argument)
    if not override.is_sweep_override():
        return [argument]
    if isinstance(pattern := override.value(), Glob):
        names = files.presets(key) if key in PRESET_GROUPS else registry(kind_of(key.replace(".", "/"))).names()
        return [f"{key}={name}" for name in pattern.filter(list(names))]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _checked(command: str, given: Arguments, schema: Mapping[str, Knob]) -> list[tuple[str, str, Any]]:
    """The settings as keys, texts and values, once the keys are known and the values fit; the last one of a key counts.

    A bool is no number here and a number no bool, whatever OmegaConf would make of them.
    """
    checked = {}
    for key, text in given.settings:
        if key not in schema:
            error = unknown(key, [*schema, *map(dotted, groups(command)), *PRESET_GROUPS])
            sentence = f"; for a sentence use prompt='{key}={text}'" if command == "generate" and " " in text else ""
            raise ConfigError(f"{error}{sentence}")
        override = _parse(f"{key}={text}")
        if override.is_sweep_override():
            raise ConfigError(f"{key}={text}: several values are a sweep, which needs -m")
        value = override.value()
        files.refuse_reserved(value, "the overrides", key)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not fits(value, schema[key].type) and not (is_number and fits(text, schema[key].type)):
            raise ConfigError(f"{key}={text} is not of type {type_name(schema[key].type)}")
        checked[key] = key, text, value
    return list(checked.values())


def _parse(argument: str) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{argument} can't be read ({reason}): put the value in quotes") from error


def _merge(
    schema: Mapping[str, Knob], choices: Mapping[str, str], values: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    parts, rest = {}, dict(schema)
    for group, name in choices.items():
        start = f"{dotted(group)}."
        knobs = {key.removeprefix(start): rest.pop(key) for key in schema if key.startswith(start)}
        own = {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
        parts[group, name] = nodes.node(f"{name}_knobs", knobs, own, name=name)
    # a typed root takes no key that it doesn't declare
    sections = dict.fromkeys(group.split("/")[0] for group in choices)
    root = nodes.node("settings", rest, values, **sections)
    try:
        with nodes.private_store(parts, root), hydra.initialize(config_path=None, version_base="1.3"):
            composed = hydra.compose(nodes.ROOT, overrides=list(overrides))
        tree = OmegaConf.to_container(composed, resolve=False, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _one_line(error, schema) from error
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _one_line(error: Exception, schema: Mapping[str, Knob]) -> ConfigError:
    cause = error.__cause__ or error
    key = str(getattr(cause, "full_key", "") or "")
    reason = str(cause).splitlines()[0]
    known = schema.get(key.split("[")[0])
    return ConfigError(f"{key}: {reason}; it is of type {type_name(known.type)}" if known else f"{key}: {reason}")


def _check(tree: Mapping[str, Any], schema: Mapping[str, Knob]) -> None:
    """What OmegaConf can't express: choices, fixed lengths, the range of a count."""
    for key, knob in schema.items():
        value: Any = tree
        for step in key.split("."):
            value = value[step]
        if not fits(value, knob.type):
            raise ConfigError(f"{key}={value!r} is not of type {type_name(knob.type)}")
        if key in COUNTS and value is not None and value < 1:
            raise ConfigError(f"{key}={value} is out of range: at least 1")
    if not 0 <= tree.get("seed", 0) < SEEDS:
        raise ConfigError(f"seed={tree['seed']} is out of range: from 0 to {SEEDS - 1}")


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        tree = tree[section]
    tree[last] = value

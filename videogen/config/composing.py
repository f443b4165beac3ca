"""From arguments to a validated tree: Hydra's grammar and typed merging between two checks of our own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from videogen._signature import type_name
from videogen.config import arguments, files, nodes
from videogen.config.arguments import PRESET_GROUPS, Arguments
from videogen.config.files import ConfigFile
from videogen.config.schema import (
    CHOICES,
    ConfigError,
    dotted,
    groups,
    kind_of,
    knobs_of_parts,
    settings_of,
    unknown,
)
from videogen.kinds import registry
from videogen.registry import Knob, RegistryError, fits

DEFAULT_MODEL = "shapes"
# what says "none" where a name or a path is expected
NONE = "null"


def compose(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The validated config of a command, as plain nested dicts.

    Args:
        command: "generate", "reconstruct", "train" or "evaluate".
        overrides: as on the command line; the first that isn't `key=value` is the sentence of generate.

    Raises:
        ConfigError: a key or value that no config may hold, with its nearest valid one and the file that has it.
        RegistryError: a part that isn't registered, or needs a missing package.
    """
    given = arguments.sort(command, overrides)
    layers = _layers(command, given.presets)
    choices = _choices(command, layers, given.choices)
    schema_of_parts = knobs_of_parts(choices)
    schema = {**settings_of(command), **schema_of_parts}
    values: dict[str, Any] = {}
    for group, layer in layers.items():
        # a model says what it is; what to do with it, and where to write, is for its user to say
        allowed = {**settings_of("model"), **schema_of_parts} if group == "model" else schema
        set_here = dict(layer.settings(allowed, choices))
        if group == "model" and command == "train" and layer.path.is_relative_to(files.PRESETS):
            # a preset's weights are for those who use the model: training starts afresh unless told otherwise
            set_here.pop("weights", None)
        values |= set_here
    tree = _merge(schema, choices, values, _checked(given, schema, command))
    for key, text in given.verbatim.items():
        _set(tree, key, None if key == "weights" and text == NONE else text)
    _check(tree, schema)
    return tree


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Each combination of the swept values, e.g. `scheduler=ddim,rectified_flow`; texts and paths are never split.

    Raises:
        ConfigError: a value that Hydra's grammar can't read.
    """
    choices = []
    for argument in overrides:
        if arguments.is_verbatim(argument) or Path(argument.partition("=")[2]).exists():
            choices.append([argument])
            continue
        key = argument.partition("=")[0]
        override = _parse(argument)
        if not override.is_sweep_override():
            choices.append([argument])
        elif isinstance(pattern := override.value(), Glob):
            choices.append([f"{key}={name}" for name in pattern.filter(_options(key))])
        else:
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    return [list(combination) for combination in itertools.product(*choices)]


def _options(key: str) -> list[str]:
    return list(files.presets(key)) if key in PRESET_GROUPS else registry(kind_of(key.replace(".", "/"))).names()


def _layers(command: str, presets: Mapping[str, str]) -> dict[str, ConfigFile]:
    """The files in force, later over earlier: model, train, experiment; an experiment may choose the other two."""
    chosen, experiment = {"model": DEFAULT_MODEL}, None
    if presets.get("experiment", NONE) != NONE:
        experiment = files.read(Path(presets["experiment"]))
        chosen |= {group: experiment.choices[group] for group in ("model", "train") if group in experiment.choices}
    chosen |= presets
    layers = {}
    if chosen["model"] != NONE:
        layers["model"] = files.read_model(chosen["model"])
    if command == "train" and chosen.get("train", NONE) != NONE:
        layers["train"] = files.read_preset("train", chosen["train"])
    return {**layers, **({"experiment": experiment} if experiment else {})}


def _choices(command: str, layers: Mapping[str, ConfigFile], given: Mapping[str, str]) -> dict[str, str]:
    """Which part stands in each group, by its registered name."""
    choices = {group: CHOICES[group] for group in groups(command)}
    for kind, layer in layers.items():
        # the dataset is chosen where there is training, by a file that may serve other commands too
        known = groups("generate" if kind == "model" else "train")
        also = ["model", "train"] if kind == "experiment" else []
        for group, name in layer.choices.items():
            if group not in (*known, *also):
                raise unknown(group, [*known, *also], f"the defaults of {layer.path}")
            if group in choices:
                choices[group] = _registered(group, name, str(layer.path))
    for group, name in given.items():
        if "," in name:
            raise ConfigError(f"{dotted(group)}={name}: several values are a sweep, which needs -m")
        choices[group] = _registered(group, name)
    return choices


def _registered(group: str, name: str, where: str = "") -> str:
    """The name itself, of an alias the name that it stands for."""
    try:
        return registry(kind_of(group)).describe(name).name
    except RegistryError as error:
        # an objective is found among the schedulers, and asked for by its own name
        tail = f" (in {where})" if where else ""
        raise ConfigError(f"{dotted(group)}={name}: {error}{tail}") from error


def _checked(given: Arguments, schema: Mapping[str, Knob], command: str) -> list[str]:
    """The settings as overrides for Hydra, once their keys are known and their values harmless."""
    checked = []
    for key, text in given.settings:
        if key not in schema:
            error = unknown(key, [*schema, *map(dotted, groups(command)), "model", "experiment"])
            if command == "generate" and arguments.looks_like_sentence(given.settings, key):
                raise ConfigError(f"{error}; if {key}={text} is the sentence, use prompt={key}={text!r}")
            raise error
        override = _parse(f"{key}={text}")
        if override.is_sweep_override():
            raise ConfigError(f"{key}={text}: several values are a sweep, which needs -m")
        files.refuse_reserved(override.value(), "the overrides", key)
        checked.append(f"{key}={text}")
    return checked


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
    """What OmegaConf can't express, choices and fixed lengths among it."""
    for key, knob in schema.items():
        value: Any = tree
        for step in key.split("."):
            value = value[step]
        if not fits(value, knob.type):
            raise ConfigError(f"{key}={value!r} is not of type {type_name(knob.type)}")


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        tree = tree[section]
    tree[last] = value

"""The files in force, one over the other: a model, a training preset, an experiment; what they choose and set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videogen.config import files
from videogen.config.arguments import NONE
from videogen.config.files import ConfigFile
from videogen.config.published_layer import published_layer
from videogen.config.schema import (
    CHOICES,
    TRAINING,
    ConfigError,
    dotted,
    groups,
    registered,
    settings_of,
    unknown,
    wiring_of,
)
from videogen.registry import Knob, RegistryError

DEFAULT_MODEL = "shapes"
#: how the groups begin that a denoiser without such parts has no place for
DIT = ("dit/", "fused")


def read_layers(command: str, presets: Mapping[str, str], weights: str | None = None) -> dict[str, ConfigFile]:
    """The files by what they are, later over earlier: "model", "published", "train", "experiment".

    An experiment may choose a model and a training preset; what is published says the scheduler that it came with.

    Args:
        command: that the config is for.
        presets: the names and paths given by overrides.
        weights: those given by overrides.

    Raises:
        ConfigError: no such preset, or a file that isn't of the format.
    """
    chosen, experiment = {"model": DEFAULT_MODEL}, None
    if presets.get("experiment", NONE) != NONE:
        experiment = files.read(Path(presets["experiment"]))
        chosen |= {group: experiment.choices[group] for group in ("model", "train") if group in experiment.choices}
    chosen |= presets
    layers = {}
    if chosen["model"] != NONE:
        layers["model"] = files.read_model(chosen["model"])
    if published := published_layer(command, weights):
        layers["published"] = published
    if command in TRAINING and chosen.get("train", NONE) != NONE:
        layers["train"] = files.read_preset("train", chosen["train"])
    return {**layers, **({"experiment": experiment} if experiment else {})}


def choose(command: str, layers: Mapping[str, ConfigFile], given: Mapping[str, str]) -> dict[str, str]:
    """Which part stands in each group, by its registered name.

    Args:
        command: that the config is for.
        layers: see `read_layers`.
        given: group -> name, from overrides, over all layers.

    Raises:
        ConfigError: no such group or part; the nearest is named, and the file.
    """
    known = groups(command)
    choices = {group: (CHOICES[group], "") for group in known}
    for kind, layer in layers.items():
        parts = groups("model") if kind == "model" else known
        presets = {"model", *(["train"] if command in TRAINING else [])} if kind == "experiment" else set()
        for group, name in layer.choices.items():
            if group in parts:
                choices[group] = name, f" (in {layer.path})"
            elif group not in presets:
                raise unknown(group, [*parts, *presets], f"the defaults of {layer.path}")
    for group, name in given.items():
        if "," in name:
            raise ConfigError(f"{dotted(group)}={name}: several values are a sweep, which needs -m")
        choices[group] = name, ""
    checked = {group: _checked(group, *choice) for group, choice in choices.items()}
    if wiring_of("objective", checked["objective"]):
        raise ConfigError(
            f"objective={checked['objective']}{choices['objective'][1]}: a solver has no noise schedule of its own to "
            "train on; take ddpm, rectified_flow or edm"
        )
    if "parts" not in wiring_of("denoiser", checked["denoiser"]):
        if told := [group for group in given if group.startswith(DIT)]:
            raise ConfigError(
                f"{dotted(told[0])}={given[told[0]]}: denoiser {checked['denoiser']!r} has no such part to choose"
            )
        checked = {group: name for group, name in checked.items() if not group.startswith(DIT)}
    return checked


def _checked(group: str, name: str, where: str) -> str:
    try:
        return registered(group, name)
    except RegistryError as error:
        # an objective is found among the schedulers, but was asked for as an objective
        raise ConfigError(f"{dotted(group)}={name}{where}: {error}") from error


def layer_values(
    command: str, layers: Mapping[str, ConfigFile], choices: Mapping[str, str], schema: Mapping[str, Knob]
) -> dict[str, Any]:
    """What the files set, by dotted key.

    Raises:
        ConfigError: a key that a file of its kind doesn't have, or a value of another type.
    """
    # a model says what it is; what to do with it, and where to write, is for its user to say
    own, sections = settings_of("model"), tuple(f"{dotted(group)}." for group in groups("model"))
    of_models = {key: knob for key, knob in schema.items() if key in own or key.startswith(sections)}
    values: dict[str, Any] = {}
    for kind, layer in layers.items():
        found = dict(layer.settings(of_models if kind == "model" else schema, choices))
        if kind == "model" and command == "train" and layer.path.is_relative_to(files.PRESETS):
            # a preset's weights are for those who use the model: training starts afresh unless told otherwise
            found.pop("weights", None)
        if kind == "model":
            # where a command declares a setting of the models anew, it means another thing
            found = {key: value for key, value in found.items() if key not in own or schema[key] == own[key]}
        values |= found
    return values

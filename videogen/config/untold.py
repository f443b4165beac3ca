"""What the file of a published part doesn't say, and the presets of its architecture do."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from videogen.config import files
from videogen.config.building import as_declared
from videogen.config.schema import CHOICES, dotted, registered
from videogen.kinds import registry

if TYPE_CHECKING:
    from videogen.checkpoints import Published


def untold(found: Published) -> dict[str, Any]:
    """The knobs that no file of the family says, where the presets of that architecture agree on them.

    Warns of those that they don't agree on, and names the presets; these knobs keep their defaults.
    """
    if not found.layout.untold:
        return {}
    files_ = {name: files.read(path) for name, path in files.presets("model").items()}
    presets = {name: file for name, file in files_.items() if _same(file, found)}
    agreed, open_ = {}, []
    for key in found.layout.untold:
        values = [_value(file, key, found.layout.kind) for file in presets.values()]
        if values and all(value == values[0] for value in values):
            agreed[key] = values[0]
        else:
            open_.append(key)
    if open_:
        several = ", ".join(presets) or "none"
        warnings.warn(
            f"{found.path} doesn't say {', '.join(open_)}: they keep their defaults. Presets of this architecture: "
            f"{several}; with model=<preset> weights={found.path} they are that model's",
            stacklevel=4,
        )
    return agreed


def _same(file: files.ConfigFile, found: Published) -> bool:
    """Whether a preset is of the architecture that the file tells."""
    kind, part = found.layout.kind, found.layout.part
    if kind not in file.choices or registered(kind, file.choices[kind]) != part:
        return False
    knobs = _knobs(file, kind, part)
    # what a file tells of a part's wiring is no knob
    return all(knobs.get(key, value) == value for key, value in found.knobs.items())


def _value(file: files.ConfigFile, key: str, kind: str) -> Any:
    """What a preset says of a knob of the part, or of one of a DiT's parts by a key like dit.time.default_fps."""
    node, _, knob = key.rpartition(".")
    group = node.replace(".", "/") or kind
    return _knobs(file, group, file.choices.get(group, CHOICES[group]))[knob]


def _knobs(file: files.ConfigFile, group: str, part: str) -> dict[str, Any]:
    """The knobs that a preset gives a part, defaults included."""
    section: Any = file.values
    for key in dotted(group).split("."):
        section = section.get(key, {})
    return {
        knob.name: as_declared(section[knob.name], knob.type) if knob.name in section else knob.default
        for knob in registry(group).knobs(part)
    }

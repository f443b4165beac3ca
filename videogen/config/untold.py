"""What the file of a published part doesn't say, and the presets of its architecture do."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from videogen.config import files
from videogen.config.building import as_declared
from videogen.config.schema import dotted, registered
from videogen.kinds import registry

if TYPE_CHECKING:
    from videogen.checkpoints import Published


def untold(found: Published) -> dict[str, Any]:
    """The knobs that no file of the family says, where the presets of that architecture agree on them.

    Warns of those that they don't agree on, and names the presets; these knobs keep their defaults.
    """
    if not found.layout.untold:
        return {}
    presets = {name: knobs for name in files.presets("model") if (knobs := _knobs(name, found)) is not None}
    agreed, open_ = {}, []
    for key in found.layout.untold:
        values = [knobs[key] for knobs in presets.values()]
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


def _knobs(preset: str, found: Published) -> dict[str, Any] | None:
    """The knobs that a preset gives the part, defaults included; None if it is of another architecture."""
    layout = found.layout
    file = files.read(files.presets("model")[preset])
    if layout.kind not in file.choices or registered(layout.kind, file.choices[layout.kind]) != layout.part:
        return None
    section: Any = file.values
    for key in dotted(layout.kind).split("."):
        section = section.get(key, {})
    knobs = {
        knob.name: as_declared(section[knob.name], knob.type) if knob.name in section else knob.default
        for knob in registry(layout.kind).knobs(layout.part)
    }
    # what a file tells of a part's wiring is no knob
    return knobs if all(knobs.get(key, value) == value for key, value in found.knobs.items()) else None

"""What a published model's folder says of its scheduler, as a layer over the preset and under the overrides."""

from __future__ import annotations

from pathlib import Path

from videogen.config.files import ConfigFile
from videogen.config.schema import groups
from videogen.kinds import registry

#: no published folder says these: the preset does
UNTOLD = frozenset({"eta", "latents_per_token"})


def published_layer(command: str, weights: str | None) -> ConfigFile | None:
    """The scheduler, and the noise schedule of its network, that the folder `weights` has in scheduler_config.json.

    None where there is no such file. All other knobs of that scheduler have their defaults again, but for those that
    such a file never tells.

    Raises:
        ValueError: a scheduler, or a setting of it, that has no counterpart here.
    """
    folder = Path(weights) if weights else None
    if folder is None or not folder.is_dir() or not {"scheduler", "objective"} <= set(groups(command)):
        return None
    from videogen.checkpoints.schedulers import read_scheduler, scheduler_file

    file = scheduler_file(folder)
    if file is None:
        return None
    found = read_scheduler(file)
    objective, levels = found.objective
    defaults = {knob.name: knob.default for knob in registry("scheduler").knobs(found.part) if knob.name not in UNTOLD}
    knobs = {
        key: list(value) if isinstance(value, tuple) else value for key, value in {**defaults, **found.knobs}.items()
    }
    return ConfigFile(
        file, {"scheduler": found.part, "objective": objective}, {"scheduler": knobs, "objective": dict(levels)}
    )

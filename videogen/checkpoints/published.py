"""Published checkpoints in and out: the family is recognised by its config and keys, and mapped by its tables."""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from videogen.checkpoints import layouts
from videogen.checkpoints.folder import CONFIG, write_folder
from videogen.checkpoints.layout import Config, Layout, LayoutError
from videogen.checkpoints.tensors import read_tensors
from videogen.kinds import registry

WEIGHTS = "diffusion_pytorch_model.safetensors"


@functools.cache
def families() -> Mapping[str, Layout]:
    """The known layouts by the name of their module."""
    names = sorted(module.name for module in pkgutil.iter_modules(layouts.__path__) if not module.name.startswith("_"))
    return {name: importlib.import_module(f"{layouts.__name__}.{name}").LAYOUT for name in names}


def recognise(config: Config, keys: Collection[str], where: object) -> Layout:
    """The layout of a checkpoint.

    Raises:
        LayoutError: no family's, or several families'.
    """
    found = {name: layout for name, layout in families().items() if layout.recognise(config, keys)}
    if len(found) != 1:
        told = config.get("_class_name", "no class")
        which = "is of no known family" if not found else f"could be any of {', '.join(found)}"
        raise LayoutError(
            f"{where} {which} (its config names {told}, its first keys are {', '.join(sorted(keys)[:3])}); "
            f"known are: {', '.join(families())}"
        )
    return next(iter(found.values()))


def load_published(path: Path) -> nn.Module:
    """The part that a published folder or file holds, with its weights in float32, in eval mode.

    Args:
        path: a folder with `config.json`, or a file beside one; a family whose keys say everything needs none.

    Raises:
        LayoutError: no known family, or keys and shapes that don't fit the config; each is named, nothing is loaded.
        ValueError, FileNotFoundError: see `read_tensors`.
    """
    folder = path if path.is_dir() else path.parent
    config = json.loads((folder / CONFIG).read_text()) if (folder / CONFIG).is_file() else {}
    tensors = read_tensors(path)
    layout = recognise(config, tensors, path)
    try:
        knobs = layout.knobs(config, tensors)
    except KeyError as error:
        raise LayoutError(f"{folder / CONFIG} says no {error}, which {layout.part!r} is built from") from error
    part: nn.Module = registry(layout.kind).build(layout.part, **knobs)
    part.load_state_dict(layout.to_ours(tensors, part, knobs))
    return part.float().eval()


def save_published(part: nn.Module, config: Mapping[str, Any], folder: Path) -> None:
    """Write a part as the folder that it was loaded from: the published `config.json` and key names.

    Args:
        config: the published one.

    Raises:
        LayoutError: a config of no known family, or of another part than this.
    """
    state = part.state_dict()
    found = [layout for layout in families().values() if _fits(layout, config, state)]
    if len(found) != 1:
        raise LayoutError(f"this {type(part).__name__} is no part that a config of {config.get('_class_name')} names")
    published = found[0].to_published(state, found[0].knobs(config, ()))

    def fill(target: Path) -> None:
        (target / CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n")
        save_file(published, target / WEIGHTS)

    write_folder(folder, fill)


def _fits(layout: Layout, config: Config, state: Mapping[str, Any]) -> bool:
    try:
        knobs = layout.knobs(config, ())
    except (KeyError, ValueError):
        return False
    names = [name for group in layout.published_keys(state, knobs).values() for name in group]
    return layout.recognise(config, names)

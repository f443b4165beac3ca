"""Published checkpoints in and out: the family is recognised by its config and keys, and mapped by its tables."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from videogen.checkpoints.folder import CONFIG, read_config, write_folder
from videogen.checkpoints.layout import Config, Layout, LayoutError
from videogen.checkpoints.layouts import LAYOUTS
from videogen.checkpoints.slices import without_slice
from videogen.checkpoints.tensors import PICKLES, read_tensors
from videogen.kinds import registry

WEIGHTS = "diffusion_pytorch_model.safetensors"
#: what an empty tuple of these knobs stands for, for every channel
NEUTRAL = {"latent_shift": 0.0, "latent_scale": 1.0}


@functools.cache
def families() -> Mapping[str, Layout]:
    """All registered layouts by name; one that can't be loaded here is warned of and left out."""
    found = {}
    for name in LAYOUTS.names():
        try:
            found[name] = LAYOUTS.build(name)
        except Exception as error:
            # a plugin may fail in any way, and the other families are read all the same
            warnings.warn(f"layout {name!r} can't be loaded, so its family isn't recognised: {error}", stacklevel=2)
    return found


@dataclasses.dataclass(frozen=True)
class Published:
    """A published checkpoint that is recognised and not built yet.

    Args:
        path: of its folder or file.
        layout: of its family.
        knobs: of the part, as far as the checkpoint tells them.
        tensors: of the part, by their published names.
        nodes: of a DiT, its parts: kind -> name and the knobs that the checkpoint tells.
    """

    path: Path
    layout: Layout
    knobs: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    nodes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def build(self, attention: Any = None, **more: Any) -> nn.Module:
        """The part with its weights in float32, in eval mode.

        Args:
            attention: the kernel of a part that has attention, which no checkpoint tells; sdpa by default.
            more: knobs that the checkpoint doesn't tell; of a DiT's parts by keys like dit.time.default_fps.

        Raises:
            LayoutError: keys and shapes that don't fit; each is named.
        """
        nodes = {kind: dict(node) for kind, node in self.nodes.items()}
        for key in [key for key in more if key.startswith("dit.")]:
            _, kind, knob = key.split(".")
            nodes.setdefault(kind, {})[knob] = more.pop(key)
        knobs = {**self.knobs, **more, **self._wiring(attention, nodes)}
        part: nn.Module = registry(self.layout.kind).build(self.layout.part, **knobs)
        self._load(part)
        return part.float().eval()

    def fill(self, part: nn.Module, name: str, knobs: Config) -> None:
        """Load the weights into a part that was built as `name` with these knobs.

        Raises:
            LayoutError: the checkpoint is of another part or tells other knobs, or keys and shapes don't fit; each
                is named, nothing is loaded.
        """
        if name != self.layout.part:
            raise LayoutError(
                f"the weights in {self.path} are of {self.layout.kind} {self.layout.part!r}, not of {name!r}: choose "
                f"{self.layout.kind}={self.layout.part}, or a preset of that"
            )
        asked = {key: value for key, value in knobs.items() if key != "dit"} | _dotted(knobs.get("dit", {}))
        there = {**self.knobs, **_dotted(self.nodes)}
        differing = [key for key, told in there.items() if not _alike(key, told, asked.get(key))]
        if differing:
            said = "; ".join(f"{key}: {there[key]!r} there, {asked.get(key)!r} asked for" for key in differing)
            raise LayoutError(f"the weights in {self.path} are of another {name!r} ({said}): set what they say")
        self._load(part)

    def _wiring(self, attention: Any, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The kernel, or the parts of a DiT, for a part that is built with them."""
        wiring = registry(self.layout.kind).describe(self.layout.part).wiring
        if "parts" in wiring:
            from videogen.dit.parts import choose

            return {"parts": choose(attention, None, **nodes)}
        return {"attention": attention or registry("attention").build("sdpa")} if "attention" in wiring else {}

    def _load(self, part: nn.Module) -> None:
        try:
            ours = self.layout.to_ours(
                self.tensors, part, {**self.knobs, **({"dit": self.nodes} if self.nodes else {})}
            )
        except LayoutError as error:
            raise LayoutError(f"{self.path}: {error}") from error
        part.load_state_dict(ours)


def _dotted(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The parts of a DiT as keys like dit.block.name."""
    return {f"dit.{kind}.{key}": value for kind, node in nodes.items() for key, value in node.items()}


def is_published(path: Path) -> bool:
    """Whether a path is a file, or a folder of weights that isn't of our own format."""
    if path.is_dir() and (path / CONFIG).is_file():
        return "kind" not in read_config(path)
    if path.is_dir():
        return any(child.suffix in (".safetensors", *PICKLES) for child in path.iterdir())
    return path.is_file()


def recognise(config: Config, tensors: Mapping[str, Tensor], where: object, kind: str | None = None) -> Layout:
    """The layout of a checkpoint.

    Args:
        kind: of part that is wanted; a file with a whole model holds several.

    Raises:
        LayoutError: no family's, or several families'.
    """
    asked = {name: layout for name, layout in families().items() if kind in (None, layout.kind)}
    found = {name: layout for name, layout in asked.items() if layout.recognise(config, layout.own(tensors))}
    kinds = sorted({layout.kind for layout in found.values()})
    if len(kinds) > 1:
        raise LayoutError(f"{where} holds several parts: say which one, with kind={' or kind='.join(map(repr, kinds))}")
    if len(found) != 1:
        told = config.get("_class_name", "no class")
        which = "is of no known family" if not found else f"could be any of {', '.join(found)}"
        raise LayoutError(
            f"{where} {which} (its config names {told}, its first keys are {', '.join(sorted(tensors)[:3])}); "
            f"known are: {', '.join(asked)}"
        )
    return next(iter(found.values()))


def read_published(path: Path, kind: str | None = None) -> Published:
    """A published folder or file, read and recognised.

    Args:
        path: a folder with `config.json`, or a file beside one; a family whose keys say everything needs none.
        kind: of part that is wanted, where a file holds several.

    Raises:
        LayoutError: no known family, or a config that says too little.
        ValueError, FileNotFoundError: see `read_tensors`; a config of settings that are not implemented.
    """
    folder = path if path.is_dir() else path.parent
    config = read_config(folder) if (folder / CONFIG).is_file() else {}
    tensors = read_tensors(path)
    layout = recognise(config, tensors, path, kind)
    own = layout.own(tensors)
    try:
        knobs = layout.knobs(config, own)
        nodes = knobs.pop("dit", {})
        return Published(path, layout, knobs, own, nodes)
    except KeyError as error:
        raise LayoutError(f"{path} says no {error}, which {layout.part!r} is built from") from error


def load_published(path: Path, **more: Any) -> nn.Module:
    """The part that a published folder or file holds, with its weights in float32, in eval mode.

    Args:
        more: what the checkpoint doesn't tell: an attention kernel for parts that take one, knobs.

    Raises:
        LayoutError: no known family, or keys and shapes that don't fit the config; each is named, nothing is loaded.
        ValueError, FileNotFoundError: see `read_published`.
    """
    return read_published(path).build(**more)


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
    published = found[0].to_published(state, found[0].knobs(config, {}))

    def fill(target: Path) -> None:
        (target / CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n")
        save_file(published, target / WEIGHTS)

    write_folder(folder, fill)


def save_original(part: nn.Module, family: str, knobs: Config, file: Path, *, prefix: str = "") -> None:
    """Write a part as the single file of its first release, which has key names alone and no config.

    Args:
        family: name of the layout, such as "wan_original".
        knobs: that the part was built with.
        file: `.safetensors`, or a pickle of tensors.
        prefix: to put before each key, as files of whole pipelines have it.

    Raises:
        LayoutError: no such family, or another ending of the file.
    """
    if family not in families() or file.suffix not in (".safetensors", *PICKLES):
        raise LayoutError(
            f"family {family!r}, file {file.name}: choose a family from {', '.join(families())}, and an ending from "
            f".safetensors, {', '.join(PICKLES)}"
        )
    tensors = families()[family].to_published(part.state_dict(), knobs)
    named = {prefix + key: value for key, value in tensors.items()}
    if file.suffix == ".safetensors":
        save_file(named, file)
    else:
        torch.save(named, file)


def _fits(layout: Layout, config: Config, state: Mapping[str, Any]) -> bool:
    try:
        knobs = layout.knobs(config, {})
    except (KeyError, ValueError, TypeError):
        # another family's config says less, or other things under the same names
        return False
    names = [without_slice(name) for group in layout.published_keys(state, knobs).values() for name in group]
    return layout.recognise(config, names)


def _alike(key: str, told: Any, asked: Any) -> bool:
    """Whether two values of a knob are the same: lists and tuples are, schedules of layers by what they mean, and
    numbers to six digits."""
    if key == "layers" and isinstance(told, str) and isinstance(asked, str):
        from videogen.dit.schedule import layers

        return layers(told) == layers(asked)
    if isinstance(told, Sequence) and isinstance(asked, Sequence) and not isinstance(told, str):
        if key in NEUTRAL:
            told, asked = list(told) or [NEUTRAL[key]], list(asked) or [NEUTRAL[key]]
            # one value stands for all channels
            told, asked = (one * len(other) if len(one) == 1 else one for one, other in ((told, asked), (asked, told)))
        return len(told) == len(asked) and all(_alike("", *pair) for pair in zip(told, asked, strict=True))
    if isinstance(told, float) and isinstance(asked, (int, float)):
        return math.isclose(told, asked, rel_tol=1e-6)
    return bool(told == asked)

"""From a composed config to the parts that it names, with their weights, and to the pipeline made of them."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videogen.config.schema import CHOICES, COMMON, ConfigError, wiring_of
from videogen.kinds import registry
from videogen.registry import fits, nearest

if typing.TYPE_CHECKING:
    from videogen.pipelines.text_to_video import TextToVideo

#: the kernel of a part that is loaded alone
DEFAULT_ATTENTION = {"name": CHOICES["attention"]}
#: other names of a part's folder, in diffusers' folders of whole models
THEIRS = {"denoiser": ("unet", "transformer")}
WEIGHTS = Path(__file__).parent.parent / "weights"
SAMPLING = ("num_frames", "height", "width", "steps", "guidance", "guidance_rescale", "negative_prompt")


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of one model."""

    vae: Any
    denoiser: Any
    text: Any
    objective: Any
    scheduler: Any


def build_part(kind: str, node: Mapping[str, Any], *wiring: Any) -> Any:
    """The part that a node names, with its knobs and random weights."""
    parts = registry(kind)
    name = node["name"]
    declared = {knob.name: knob.type for knob in parts.knobs(name)}
    common = COMMON.get(kind, {})
    own = {key: value for key, value in node.items() if key != "name" and key not in common}
    knobs = {key: as_declared(value, declared.get(key, Any)) for key, value in own.items()}
    return parts.build(name, *wiring, **knobs)


def as_declared(value: Any, annotation: Any) -> Any:
    """A value with tuples where the annotation has tuples: YAML knows lists alone."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return as_declared(value, next((kind for kind in arguments if fits(value, kind)), Any))
    if not isinstance(value, (list, tuple)) or not arguments:
        return value
    each = arguments if origin is tuple and Ellipsis not in arguments else [arguments[0]] * len(value)
    items = [as_declared(item, kind) for item, kind in zip(value, each, strict=False)]
    return tuple(items) if origin is tuple else items


def build_parts(config: Mapping[str, Any]) -> Parts:
    """All parts of a composed config, with the weights that it names.

    Raises:
        ConfigError: no such weights, or a memory budget for training, which keeps what a budget would drop.
        ValueError: weights of another model; what differs is named.
    """
    if "train" in config and config["vae"]["memory_budget"]:
        raise ConfigError("vae.memory_budget is for encoding and decoding: leave it out when training")
    folder = _weights(config)
    vae = build_part("vae", config["vae"])
    text = build_part("text", config["text"])
    attention = build_part("attention", config["attention"])
    block = functools.partial(_block, config["dit"]["block"], attention) if "dit" in config else None
    denoiser = _denoiser(config["denoiser"], vae.spec.latent_channels, text.dim, block, attention)
    parts = Parts(
        vae, denoiser, text, build_part("scheduler", config["objective"]), build_part("scheduler", config["scheduler"])
    )
    _load(config, folder, {"vae": vae, "denoiser": denoiser, "text": text})
    return parts


def _denoiser(node: Mapping[str, Any], latent_channels: int, text_dim: int, block: Any, attention: Any) -> Any:
    """A denoiser takes its wiring by name: one that is made of blocks takes their maker, another one the kernel."""
    wiring = {"latent_channels": latent_channels, "text_dim": text_dim, "block": block, "attention": attention}
    return build_part("denoiser", node, *(wiring[name] for name in wiring_of("denoiser", node["name"])))


def _block(node: Mapping[str, Any], attention: Any, dim: int, num_heads: int) -> Any:
    return build_part("dit/block", node, dim, num_heads, attention)


def build_vae(config: Mapping[str, Any]) -> Any:
    """The VAE alone, with its weights: a model's, or a published VAE's folder or file; within its memory budget.

    Raises as `build_parts`.
    """
    folder = _weights(config)
    vae = build_part("vae", config["vae"])
    _load(config, folder, {"vae": vae})
    return within_budget(vae, config)


def within_budget(vae: Any, config: Mapping[str, Any]) -> Any:
    """The VAE itself, or in pieces that `vae.memory_budget` allows, where there is one; ValueError if it is no size."""
    budget = config["vae"]["memory_budget"]
    if not budget:
        return vae
    from videogen.bounded import BoundedVAE

    return BoundedVAE(vae, budget=budget)


def build_pipeline(config: Mapping[str, Any]) -> TextToVideo:
    """The text-to-video pipeline of a composed config."""
    from videogen.pipelines.text_to_video import Sampling, TextToVideo

    parts = build_parts(config)
    parts = dataclasses.replace(parts, vae=within_budget(parts.vae, config))
    sampling = Sampling(**{key: config[key] for key in SAMPLING})
    return TextToVideo(**{f.name: getattr(parts, f.name) for f in dataclasses.fields(parts)}, sampling=sampling)


def part_configs(config: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each of these parts, what it takes to build it again: kept beside its weights, compared when they load."""
    configs: dict[str, dict[str, Any]] = {}
    for kind in parts:
        said = {key: value for key, value in config[kind].items() if key not in COMMON.get(kind, {})}
        configs[kind] = {"kind": kind, **said}
    if "denoiser" in parts:
        configs["denoiser"] |= {"latent_channels": parts["vae"].spec.latent_channels, "text_dim": parts["text"].dim}
        if "dit" in config:
            configs["denoiser"]["block"] = dict(config["dit"]["block"])
    return configs


def load_part(path: Path, kind: str | None = None) -> Any:
    """The part that a folder of ours, or a published folder or file, holds, with its weights.

    Args:
        kind: of the part, where a file holds several.

    Raises:
        ConfigError: a `config.json` of ours that names no kind of part.
        ValueError: no known family, or weights that don't fit; each key is named.
        OSError: a file is missing.
    """
    from videogen.checkpoints import load_weights, read_config, read_published
    from videogen.config.untold import untold

    config = read_config(path) if (path / "config.json").is_file() else {}
    # ours says what kind of part it is; the published families don't
    if "kind" not in config:
        found = read_published(path, kind)
        attention = {"attention": build_part("attention", DEFAULT_ATTENTION)} if found.takes_attention else {}
        return found.build(**untold(found), **attention)
    if kind not in (None, config["kind"]):
        raise ConfigError(f"{path} holds a {config['kind']}, not a {kind}")
    node = {key: value for key, value in config.items() if key != "kind"}
    if config["kind"] not in ("vae", "text", "denoiser"):
        raise ConfigError(f"{path} says kind={config['kind']!r} in its config.json: vae, text or denoiser")
    if config["kind"] == "denoiser":
        attention = build_part("attention", DEFAULT_ATTENTION)
        block = functools.partial(_block, node.pop("block"), attention) if "block" in node else None
        part = _denoiser(node, node.pop("latent_channels"), node.pop("text_dim"), block, attention)
    else:
        part = build_part(config["kind"], node)
    load_weights(path, config, part)
    return part


def _weights(config: Mapping[str, Any]) -> Path | None:
    # asked for before anything is built, which may take long
    if config["weights"] is None:
        return None
    path = Path(config["weights"])
    return path if path.is_file() else weights_folder(config["weights"])


def _load(config: Mapping[str, Any], path: Path | None, modules: Mapping[str, Any]) -> None:
    from videogen.checkpoints import is_published, load_weights, read_published

    if path is None:
        return
    configs = part_configs(config, modules)
    for name, place in _places(path, _without_weights(modules), training="train" in config).items():
        if not is_published(place):
            load_weights(place, configs[name], modules[name])
        elif "train" in config:
            # its folder is copied into the model that training exports, which holds parts in our format
            raise ConfigError(f"weights={place} is a published checkpoint: train from a folder written by save_part")
        else:
            said = {key: value for key, value in configs[name].items() if key != "kind"}
            read_published(place, name).fill(modules[name], said["name"], said)


def _without_weights(modules: Mapping[str, Any]) -> list[str]:
    """The parts that wait for weights: a frozen text encoder has read its own."""
    text = modules.get("text")
    frozen = text is not None and not any(parameter.requires_grad for parameter in text.parameters())
    return [name for name in modules if name != "text" or not frozen]


def _places(path: Path, names: list[str], *, training: bool) -> dict[str, Path]:
    """Where the weights of each part are: in a folder of its name, or all in one file of a published model.

    Of one part alone, also in a published checkpoint's folder; diffusers calls a denoiser's folder otherwise.
    """
    from videogen.checkpoints import is_published

    if path.is_file() and not training:
        return dict.fromkeys(names, path)
    if len(names) == 1 and not (path / names[0]).is_dir() and is_published(path):
        return {names[0]: path}
    # a training run's checkpoint holds just what it trained; to go on from there is the one use of half a model
    present = [name for name in names if not training or (path / name).is_dir()]
    if not present:
        raise ConfigError(f"weights={path} has no folder called {', '.join(names)}: give a checkpoint's folder")
    folders = {name: [path / other for other in (name, *THEIRS.get(name, ()))] for name in present}
    return {name: next((folder for folder in found if folder.is_dir()), found[0]) for name, found in folders.items()}


def weights_folder(weights: str) -> Path:
    """The folder of `weights`: a path, or the name of weights that ship with the package.

    Raises:
        ConfigError: neither is there.
    """
    # a name that ships wins over a folder that happens to lie here
    shipped = {path.name: path for path in WEIGHTS.glob("*") if path.is_dir()}
    folder = shipped.get(weights, Path(weights))
    if folder.is_dir():
        return folder
    raise ConfigError(
        f"weights={weights}: no such folder, and no weights of that name ship: {nearest(weights, shipped)}"
    )

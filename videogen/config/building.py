"""From a composed config to the parts that it names, with their weights, and to the pipeline made of them."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from videogen.config.devices import find_device, find_precision
from videogen.config.schema import CHOICES, COMMON, ConfigError, wiring_of
from videogen.kinds import registry
from videogen.registry import fits, nearest

if typing.TYPE_CHECKING:
    from videogen.pipelines.text_to_video import TextToVideo

#: the kernel of a part that is loaded alone
DEFAULT_ATTENTION = {"name": CHOICES["attention"]}
#: other names of a part's folder, in diffusers' folders of whole models
THEIRS = {"denoiser": ("unet", "transformer"), "vision": ("image_encoder",)}
#: the parts of a pipeline that are built of their knobs alone
ALONE = ("guide", "task", "initial_noise")
WEIGHTS = Path(__file__).parent.parent / "weights"
SAMPLING = (
    *("num_frames", "height", "width", "steps"),
    *("guidance", "guidance_rescale", "negative_prompt", "embedded_guidance", "condition_fps", "blank", "clean_frames"),
    *("window", "window_overlap", "window_of"),
    *("free_init", "free_init_filter", "free_init_space", "free_init_time"),
)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of one model."""

    vae: Any
    denoiser: Any
    text: Any
    vision: Any
    objective: Any
    scheduler: Any
    guide: Any
    task: Any
    initial_noise: Any


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


def build_parts(config: Mapping[str, Any], *, fresh: Collection[str] = ()) -> Parts:
    """All parts of a composed config, with the weights that it names.

    Args:
        fresh: those of "vae", "denoiser", "text" and "vision" that keep random weights.

    Raises:
        ConfigError: no such weights, or a memory budget for training, which keeps what a budget would drop.
        ValueError: weights of another model, what differs is named; parts that don't go together, or that are larger
            than the memory, before any of them is allocated.
    """
    if "train" in config and config["vae"]["memory_budget"]:
        raise ConfigError("vae.memory_budget is for encoding and decoding: leave it out when training")
    folder = _weights(config)
    modules = _fitting(lambda: _modules(config))
    objective, scheduler = build_schedulers(config)
    _load(config, folder, {name: module for name, module in modules.items() if name not in fresh})
    alone = {kind: build_part(kind, config[kind]) for kind in ALONE}
    return Parts(objective=objective, scheduler=scheduler, **alone, **modules)


def build_schedulers(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """The objective, and the scheduler, which walks on the objective's noise unless it brings its own."""
    objective = build_part("scheduler", config["objective"])
    wiring = wiring_of("scheduler", config["scheduler"]["name"])
    return objective, build_part("scheduler", config["scheduler"], *([objective] if wiring else []))


def _modules(config: Mapping[str, Any]) -> dict[str, Any]:
    vae, text = build_part("vae", config["vae"]), build_part("text", config["text"])
    return {
        "vae": vae,
        "denoiser": build_denoiser(config, vae, text, build_part("attention", config["attention"])),
        "text": text,
        "vision": build_part("vision", config["vision"]),
    }


def _fitting(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `build` gives; first it has to give shapes without numbers, which cost nothing and tell what is wrong.

    Raises:
        ValueError: parts that refuse their knobs or each other, or more weights than there is memory.
    """
    import torch

    from videogen.profiling.memory import check_fits, weight_bytes

    with torch.device("meta"):
        check_fits({name: weight_bytes(module) for name, module in build().items()})
    return build()


def build_denoiser(config: Mapping[str, Any], vae: Any, text: Any, attention: Any) -> Any:
    """The denoiser of a composed config with random weights, for a VAE and a text encoder, whose sizes alone count."""
    kernels = {"attention": attention} | ({"fused": build_part("fused", config["fused"])} if "fused" in config else {})
    return _denoiser(config["denoiser"], _sizes(vae, text), kernels, config.get("dit"))


def _denoiser(
    node: Mapping[str, Any], sizes: Mapping[str, int], kernels: Mapping[str, Any], dit: Mapping[str, Any] | None
) -> Any:
    """A denoiser takes its wiring by name: sizes, and the attention kernel alone or all parts of a DiT."""
    wiring = {"pooled_dim": None, **sizes, "attention": kernels["attention"], "parts": dit and _parts(dit, kernels)}
    return build_part("denoiser", node, *(wiring[name] for name in wiring_of("denoiser", node["name"])))


def _sizes(vae: Any, text: Any) -> dict[str, int]:
    """What a denoiser's wiring says of the parts beside it; an encoder's pooled vector is as wide as its tokens,
    unless it says so."""
    pooled = getattr(text, "pooled_dim", None) or text.dim
    widths = {"text_dim": text.dim} | ({} if pooled == text.dim else {"pooled_dim": pooled})
    return {"latent_channels": vae.spec.latent_channels, **widths}


def _parts(dit: Mapping[str, Any], kernels: Mapping[str, Any]) -> Any:
    from videogen.dit.parts import Parts

    # a model that was saved before a kind of part came up has what stands for its absence
    nodes = {group.split("/")[1]: {"name": name} for group, name in CHOICES.items() if group.startswith("dit/")}
    nodes |= dit
    builders: dict[str, Any] = {
        part: functools.partial(build_part, f"dit/{part}", node) for part, node in nodes.items()
    }
    return Parts(**kernels, names={part: node["name"] for part, node in nodes.items()}, **builders)


def build_vae(config: Mapping[str, Any]) -> Any:
    """The VAE alone, with its weights: a model's, or a published VAE's folder or file; within its memory budget.

    Raises as `build_parts`.
    """
    folder, device = _weights(config), find_device(config["device"])
    modules = _fitting(lambda: {"vae": build_part("vae", config["vae"])})
    _load(config, folder, modules)
    return within_budget(modules["vae"].to(device), config)


def within_budget(vae: Any, config: Mapping[str, Any]) -> Any:
    """The VAE itself, or in pieces that `vae.memory_budget` allows, where there is one; ValueError if it is no size."""
    budget = config["vae"]["memory_budget"]
    if not budget:
        return vae
    from videogen.bounded import BoundedVAE

    return BoundedVAE(vae, budget=budget)


def build_pipeline(config: Mapping[str, Any]) -> TextToVideo:
    """The text-to-video pipeline of a composed config."""
    from videogen.pipelines.sampling import Sampling
    from videogen.pipelines.text_to_video import TextToVideo

    device, precision = find_device(config["device"]), find_precision(config["precision"])
    parts = build_parts(config)
    parts = dataclasses.replace(parts, vae=within_budget(parts.vae, config))
    sampling = Sampling(**{key: config[key] for key in SAMPLING})
    pipeline = TextToVideo(**{f.name: getattr(parts, f.name) for f in dataclasses.fields(parts)}, sampling=sampling)
    return pipeline.to(device, precision)


def part_configs(config: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each of these parts, what it takes to build it again: kept beside its weights, compared when they load."""
    configs: dict[str, dict[str, Any]] = {}
    for kind in parts:
        said = {key: value for key, value in config[kind].items() if key not in COMMON.get(kind, {})}
        configs[kind] = {"kind": kind, **said}
    if "denoiser" in parts:
        configs["denoiser"] |= _sizes(parts["vae"], parts["text"])
        if "dit" in config:
            configs["denoiser"]["dit"] = {part: dict(node) for part, node in config["dit"].items()}
    return configs


def load_part(path: Path, kind: str | None = None) -> Any:
    """The part that a folder of ours, or a published folder or file, holds, with its weights.

    A published scheduler has none, and is told by its scheduler_config.json, which a whole model's folder has too.

    Args:
        kind: of the part, where a file or a folder holds several.

    Raises:
        ConfigError: a `config.json` of ours that names no kind of part.
        ValueError: no known family, or weights that don't fit; each key is named.
        OSError: a file is missing.
    """
    from videogen.checkpoints import load_weights, read_config, read_published
    from videogen.checkpoints.schedulers import FILE, read_scheduler
    from videogen.config.untold import untold
    from videogen.profiling.memory import check_fits

    if kind == "scheduler" or path.name == FILE or (path / FILE).is_file():
        return read_scheduler(path).build()
    _check_files(path)
    config = read_config(path) if (path / "config.json").is_file() else {}
    # ours says what kind of part it is; the published families don't
    if "kind" not in config:
        found = read_published(path, kind)
        # the part is made of float32, whatever the file has
        check_fits({found.layout.kind: sum(4 * tensor.numel() for tensor in found.tensors.values())})
        return found.build(build_part("attention", DEFAULT_ATTENTION), **untold(found))
    if kind not in (None, config["kind"]):
        raise ConfigError(f"{path} holds a {config['kind']}, not a {kind}")
    node = {key: value for key, value in config.items() if key != "kind"}
    if config["kind"] not in ("vae", "text", "vision", "denoiser"):
        raise ConfigError(f"{path} says kind={config['kind']!r} in its config.json: vae, text, vision or denoiser")
    part = _fitting(lambda: {config["kind"]: _saved(config["kind"], dict(node))})[config["kind"]]
    load_weights(path, config, part)
    return part


def _saved(kind: str, node: dict[str, Any]) -> Any:
    """The part that a config.json of ours describes."""
    if kind != "denoiser":
        return build_part(kind, node)
    sizes: dict[str, int] = {
        name: node.pop(name) for name in ("latent_channels", "text_dim", "pooled_dim") if name in node
    }
    dit = node.pop("dit", None)
    return _denoiser(node, sizes, {"attention": build_part("attention", DEFAULT_ATTENTION)}, dit)


def _check_files(path: Path) -> None:
    """Refuse a checkpoint that is larger than the memory, before it is read."""
    from videogen.profiling.memory import check_fits

    files = [path] if path.is_file() else [*path.glob("*.safetensors"), *path.glob("*.bin"), *path.glob("*.pt")]
    check_fits({file.name: file.stat().st_size for file in files})


def _weights(config: Mapping[str, Any]) -> Path | None:
    # asked for before anything is built, which may take long
    if config["weights"] is None:
        return None
    path = Path(config["weights"])
    return path if path.is_file() else weights_folder(config["weights"])


def _load(config: Mapping[str, Any], path: Path | None, modules: Mapping[str, Any]) -> None:
    waiting, alone = _without_weights(modules), config["vision"]["weights"]
    places = {}
    if alone and "vision" in waiting:
        waiting.remove("vision")
        places["vision"] = Path(alone)
    if path is not None:
        places |= _places(path, waiting, training="train" in config)
    configs = part_configs(config, modules)
    for name, place in places.items():
        _fill(config, configs[name], name, place, modules[name])


def _fill(config: Mapping[str, Any], own: Mapping[str, Any], name: str, place: Path, module: Any) -> None:
    """Load the weights that are in a place into the part `name`, whose own config is given."""
    from videogen.checkpoints import is_published, load_weights, read_published

    if not is_published(place):
        load_weights(place, own, module)
    elif "train" in config:
        # its folder is copied into the model that training exports, which holds parts in our format
        raise ConfigError(f"weights={place} is a published checkpoint: train from a folder written by save_part")
    else:
        said = {key: value for key, value in own.items() if key != "kind"}
        read_published(place, name).fill(module, said["name"], said)


def _without_weights(modules: Mapping[str, Any]) -> list[str]:
    """The parts that wait for weights: a frozen text encoder has read its own, and some parts have none."""
    return [
        name
        for name, part in modules.items()
        if any(name != "text" or parameter.requires_grad for parameter in part.parameters())
    ]


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

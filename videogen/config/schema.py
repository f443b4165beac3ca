"""What a config may hold: one tree for every command, whose leaves are settings and the knobs of the chosen parts."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from videogen.dit.defaults import DEFAULTS
from videogen.kinds import KINDS, registry
from videogen.registry import Knob
from videogen.training.settings import TrainSettings


class ConfigError(ValueError):
    """A key, a value or a file that no config may hold."""


Precision = Literal["float32", "bfloat16", "float16"]


@dataclasses.dataclass
class Settings:
    """What every command takes: the weights, and how to sample unless a call says otherwise."""

    weights: str | None = None
    num_frames: int = 17
    height: int = 64
    width: int = 64
    steps: int = 30
    guidance: float = 4.0
    guidance_rescale: float = 0.0
    fps: int = 8
    negative_prompt: str = ""
    embedded_guidance: float | None = None
    condition_fps: float | None = None
    blank: Literal["gray", "black", "zeros", "repeat"] = "gray"
    clean_frames: Literal["none", "first", "any"] = "none"
    window: int = 0
    window_overlap: int = 8
    window_of: Literal["network", "attention"] = "network"
    free_init: int = 0
    free_init_filter: Literal["butterworth", "gaussian", "ideal", "box"] = "butterworth"
    free_init_space: float = 0.25
    free_init_time: float = 0.25


@dataclasses.dataclass
class Computing(Settings):
    """What every command takes that computes: where; "auto" is a graphics card if there is one, else the CPU."""

    device: str = "auto"


@dataclasses.dataclass
class Generate(Computing):
    """`videogen generate`: a sentence, or a file of them, and images or films where the task takes some."""

    prompt: str | None = None
    prompts: str | None = None
    precision: Precision = "float32"
    image: str | None = None
    last_image: str | None = None
    video: str | None = None
    other: str | None = None
    mask: str | None = None
    output: str | None = None
    seed: int = 0
    batch_size: int = 4


@dataclasses.dataclass
class Reconstruct(Computing):
    """`videogen reconstruct`: a clip through the VAE, `chunk` frames at a time.

    Length and size are those of the file unless told otherwise; what the model samples at says nothing of a clip.
    """

    num_frames: int | None = None  # type: ignore[assignment]
    height: int | None = None  # type: ignore[assignment]
    width: int | None = None  # type: ignore[assignment]
    input: str | None = None
    output: str | None = None
    start: float = 0.0
    seconds: float | None = None
    chunk: int = 16


@dataclasses.dataclass
class Train(Computing):
    """`videogen train`."""

    train: TrainSettings = dataclasses.field(default_factory=TrainSettings)


@dataclasses.dataclass
class Evaluate(Computing):
    """`videogen evaluate`: how well the task is done, or reconstruction of the clips in a folder."""

    measure: Literal["task", "reconstruction"] = "task"
    precision: Precision = "float32"
    samples: int | None = None
    batch_size: int = 8
    seed: int = 0
    input: str | None = None
    split: str = "test"
    output: str | None = None


@dataclasses.dataclass
class Profile(Settings):
    """`videogen profile`: what a model takes, found without allocating it."""

    batch_size: int = 1
    text_tokens: int | None = None


@dataclasses.dataclass
class Brief(TrainSettings):
    """Training within an ablation: none unless it is told for how long."""

    steps: int = 0
    output: str = "runs/ablate"


@dataclasses.dataclass
class Ablate(Computing):
    """`videogen ablate`: what each of several choices takes, and with training or samples how well it does."""

    train: Brief = dataclasses.field(default_factory=Brief)
    rounds: int = 7
    samples: int | None = None
    batch_size: int = 1
    text_tokens: int | None = None
    seed: int = 0
    output: str = "ablation"


COMMANDS: Mapping[str, type[Settings]] = {
    "generate": Generate,
    "reconstruct": Reconstruct,
    "train": Train,
    "evaluate": Evaluate,
    "profile": Profile,
    "ablate": Ablate,
}
#: the commands that train, and so have data and training presets
TRAINING = ("train", "ablate")
# what holds when neither a preset nor an override chooses
CHOICES = {
    "vae": "wavelet",
    "denoiser": "dit",
    **{f"dit/{kind}": name for kind, name in DEFAULTS.items()},
    "text": "words",
    "vision": "none",
    "objective": "rectified_flow",
    "scheduler": "rectified_flow",
    "guide": "cfg",
    "task": "text_to_video",
    "initial_noise": "independent",
    "attention": "sdpa",
    "fused": "torch",
    "data": "shapes",
}

# what may be said of any part of a kind, beside its own knobs; none of it changes what the part is
COMMON = {
    "vae": {"memory_budget": Knob("memory_budget", str, "")},
    # of an image encoder that is published alone, as CLIP is
    "vision": {"weights": Knob("weights", str, "")},
}


def kind_of(group: str) -> str:
    """The kind whose registry holds a group's parts: the objective is a scheduler that trains."""
    return "scheduler" if group == "objective" else group


def groups(command: str) -> list[str]:
    """The groups that a command, or a "model", has: every kind of part; data is for training alone."""
    every = [*KINDS, "objective"]
    return every if command in TRAINING else [group for group in every if group != "data"]


def settings_of(command: str) -> dict[str, Knob]:
    """The settings of a command that are no part's knobs, by dotted key; "model" for those that a model may set.

    Raises:
        ConfigError: no such command.
    """
    if command == "model":
        return _leaves(Settings, "")
    if command not in COMMANDS:
        raise ConfigError(f"no command is called {command!r}: choose from: {', '.join(COMMANDS)}")
    return _leaves(COMMANDS[command], "")


def _leaves(schema: type[Any], prefix: str) -> dict[str, Knob]:
    hints = typing.get_type_hints(schema)
    found: dict[str, Knob] = {}
    for field in dataclasses.fields(schema):
        kind, key = hints[field.name], f"{prefix}{field.name}"
        if dataclasses.is_dataclass(kind):
            found |= _leaves(typing.cast("type[Any]", kind), f"{key}.")
        else:
            # a field with a factory has no plain default
            factory = None if field.default_factory is dataclasses.MISSING else field.default_factory
            found[key] = Knob(field.name, kind, factory() if factory else field.default)
    return found


def knobs_of_parts(choices: Mapping[str, str]) -> dict[str, Knob]:
    """The knobs of the chosen parts, by dotted key; imports those parts and no others.

    Raises:
        RegistryError: no such part, or it needs a missing package.
    """
    found: dict[str, Knob] = {}
    for group, name in choices.items():
        for knob in (*registry(kind_of(group)).knobs(name), *COMMON.get(group, {}).values()):
            found[f"{dotted(group)}.{knob.name}"] = knob
    return found


def wiring_of(group: str, name: str) -> tuple[str, ...]:
    """The names of what a part gets from its parent, in order; imports that part."""
    return registry(kind_of(group)).describe(name).wiring


def registered(group: str, name: str) -> str:
    """The name itself; of an alias, the name that it stands for.

    Raises:
        RegistryError: neither a name nor an alias.
    """
    parts = registry(kind_of(group))
    return name if name in parts.names() else parts.describe(name).name


def dotted(group: str) -> str:
    """The key of a group's node: dit/block -> dit.block."""
    return group.replace("/", ".")


def unknown(key: str, keys: Iterable[str], where: str = "") -> ConfigError:
    """The error for a key that isn't there, with the nearest one and its neighbours."""
    every = sorted(keys)
    section = key.rpartition(".")[0]
    neighbours = [name for name in every if name.rpartition(".")[0] == section] if section else []
    shown = neighbours or sorted({name.split(".")[0] for name in every})
    same_word = [name for name in every if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = same_word or difflib.get_close_matches(key, [*every, *shown], n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    tail = f" (in {where})" if where else ""
    return ConfigError(f"unknown key {key!r}{tail}: {hint}choose from: {', '.join(shown)}")

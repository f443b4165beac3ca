"""Command-line arguments sorted before Hydra sees any: the sentence, texts and paths verbatim, choices, settings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from videogen.config.files import RESERVED
from videogen.config.schema import TRAINING, ConfigError, dotted, groups, settings_of

# no spaces before the "=": a sentence may hold one
KEY = re.compile(r"([A-Za-z_][\w./@-]*)=(.*)", re.DOTALL)
EDIT = re.compile(r"[+~]+[A-Za-z_][\w./@-]*(=.*)?", re.DOTALL)
# texts and paths: never parsed, so that commas, quotes, braces and dollars stay what they are
VERBATIM = frozenset(
    {
        *("prompt", "negative_prompt", "prompts", "image", "last_image"),
        *("input", "output", "weights", "train.output", "vision.weights"),
    }
)
# what picks a file of presets
PRESET_GROUPS = ("model", "train", "experiment")
# what says "none" where a name or a path is expected
NONE = "null"


@dataclasses.dataclass
class Arguments:
    """The arguments of one command.

    Args:
        verbatim: key -> text.
        presets: "model", "train", "experiment" -> name or path.
        choices: group -> name of a part.
        settings: (dotted key, text of the value as written), in order.
    """

    verbatim: dict[str, str] = dataclasses.field(default_factory=dict)
    presets: dict[str, str] = dataclasses.field(default_factory=dict)
    choices: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def sort(command: str, overrides: Iterable[str]) -> Arguments:
    """Sort the arguments of a command.

    Raises:
        ConfigError: an argument that is neither `key=value` nor the one sentence of generate or the one model of
            profile, or a key that is refused.
    """
    settings = settings_of(command)
    by_key = {dotted(group): group for group in groups(command)}
    found = Arguments()
    for argument in overrides:
        match = KEY.fullmatch(argument)
        if match is None:
            _take_word(command, argument, found)
            continue
        key, value = match[1].replace("/", "."), match[2]
        _refuse_key(key, argument)
        if key in VERBATIM and (key in settings or key.split(".")[0] in by_key):
            if key == "prompt" and key in found.verbatim:
                raise _two_sentences(found.verbatim[key], value)
            found.verbatim[key] = value
        elif key in ("model", "experiment") or (key == "train" and command in TRAINING):
            found.presets[key] = value
        elif key in by_key:
            found.choices[by_key[key]] = value.strip()
        elif key.removesuffix(".name") in by_key:
            raise ConfigError(f"{argument}: a part is chosen as {key.removesuffix('.name')}={value}")
        else:
            found.settings.append((key, value))
    return found


def is_verbatim(argument: str) -> bool:
    """Whether an argument is a sentence, a text or a path."""
    match = KEY.fullmatch(argument)
    return match is None or match[1].replace("/", ".") in VERBATIM


def _take_word(command: str, argument: str, found: Arguments) -> None:
    """The sentence of generate, the model of profile."""
    if EDIT.fullmatch(argument) and not re.search(r"\s", argument.partition("=")[0]):
        raise ConfigError(f"{argument}: keys can't be added or removed, set one that exists as key=value")
    if command == "profile" and "model" not in found.presets:
        found.presets["model"] = argument
        return
    if command != "generate":
        raise ConfigError(f"{argument!r} is no key=value, and {command} takes no sentence")
    if "prompt" in found.verbatim:
        raise _two_sentences(found.verbatim["prompt"], argument)
    found.verbatim["prompt"] = argument


def _two_sentences(first: str, second: str) -> ConfigError:
    return ConfigError(
        f"two sentences, {first!r} and {second!r}: quote the sentence, or give several in a file with prompts=file.txt"
    )


def _refuse_key(key: str, argument: str) -> None:
    if reserved := RESERVED & set(key.split(".")):
        raise ConfigError(f"{argument}: {min(reserved)} is refused, a config names registered parts and calls nothing")
    if key.split(".")[0].split("@")[0] == "hydra":
        raise ConfigError(f"{argument}: Hydra itself is not configurable here, remove {key!r}")

"""Schemas as nodes of Hydra's config store: a dataclass a part, whose fields are its knobs."""

from __future__ import annotations

import collections.abc
import contextlib
import copy
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from videogen.registry import Knob

ROOT = "videogen"
PRIMITIVES = (int, float, bool, str)


def node(title: str, knobs: Mapping[str, Knob], values: Mapping[str, Any], **extra: Any) -> Any:
    """An instance of a dataclass with these knobs as typed fields; nested for dotted keys.

    Args:
        title: of the dataclass, in Hydra's messages.
        knobs: key -> knob, keys relative to this node.
        values: key -> value in place of a knob's default.
        extra: fields to put first; one that is None takes any node.
    """
    fields: list[Any] = [(key, Any if value is None else type(value), value) for key, value in extra.items()]
    nested: dict[str, dict[str, Knob]] = {}
    for key, knob in knobs.items():
        section, _, rest = key.partition(".")
        if rest:
            nested.setdefault(section, {})[rest] = knob
        else:
            value = plain(values.get(key, knob.default))
            fields.append((key, plain_type(knob.type), dataclasses.field(default_factory=_giver(value))))
    for section, inner in nested.items():
        start = f"{section}."
        inner_values = {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
        child = node(section, inner, inner_values)
        fields.append((section, type(child), dataclasses.field(default_factory=_giver(child))))
    return dataclasses.make_dataclass(title, fields)()


def _giver(value: Any) -> collections.abc.Callable[[], Any]:
    return lambda: copy.deepcopy(value)


def plain(value: Any) -> Any:
    """Tuples as lists, as YAML and OmegaConf have them."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def plain_type(annotation: Any) -> Any:
    """The nearest type that OmegaConf checks; what it can't express is Any, and checked against the knob afterwards."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in PRIMITIVES:
        return annotation
    if origin is Literal:
        return _one_of([type(choice) for choice in arguments])
    if origin in (typing.Union, types.UnionType):
        return _one_of([plain_type(argument) for argument in arguments])
    if origin in (list, tuple, collections.abc.Sequence):
        items = {plain_type(argument) for argument in arguments if argument is not Ellipsis}
        return list[items.pop()] if len(items) == 1 else list[Any]  # type: ignore[misc]
    return types.NoneType if annotation in (None, types.NoneType) else Any


def _one_of(choices: list[Any]) -> Any:
    optional, kinds = types.NoneType in choices, {kind for kind in choices if kind is not types.NoneType}
    if len(kinds) != 1:
        return Any
    kind = kinds.pop()
    return kind | None if optional and kind is not Any else kind


@contextlib.contextmanager
def private_store(groups: Mapping[tuple[str, str], Any], root: Any) -> Iterator[None]:
    """A config store that holds these nodes alone, so that an application's own Hydra groups and ours never mix.

    Args:
        groups: (group, name) -> node.
        root: the node of the settings that belong to no group.
    """
    store, outer_hydra = ConfigStore.instance(), GlobalHydra.instance().hydra
    outer = store.repo
    store.repo = {name: entry for name, entry in outer.items() if name == "hydra" or name.startswith("_")}
    GlobalHydra.instance().clear()
    try:
        for (group, name), part in groups.items():
            store.store(group=group, name=name, node=part)
        store.store(name="settings", node=root)
        defaults = [{group: name} for group, name in groups]
        store.store(name=ROOT, node={"defaults": ["settings", *defaults, "_self_"]})
        yield
    finally:
        store.repo = outer
        GlobalHydra.instance().hydra = outer_hydra

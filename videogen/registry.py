"""Typed registries: names to factories, each with a schema read from its signature."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import fnmatch
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class RegistryError(ValueError):
    """A name, a knob or a value that no registered part answers to."""


@dataclasses.dataclass(frozen=True)
class Knob:
    """One keyword-only parameter of a part: what a config may set."""

    name: str
    type: Any
    default: Any


@dataclasses.dataclass(frozen=True)
class Description:
    """What `videogen show` prints of a part."""

    kind: str
    name: str
    summary: str
    wiring: tuple[str, ...]
    knobs: tuple[Knob, ...]
    origin: str


def nearest(word: str, choices: Iterable[str]) -> str:
    """The tail of an error message: the closest choice, then all of them."""
    options = sorted(choices)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}choose from: {', '.join(options) or '(none)'}"


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value (number, string, sequence) is of an annotated type; an int is a float, a bool is no int."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin in (list, tuple, Sequence):
        if isinstance(value, str) or not isinstance(value, Sequence):
            return False
        if origin is tuple and Ellipsis not in arguments:
            return len(value) == len(arguments) and all(map(fits, value, arguments))
        return all(fits(item, arguments[0]) for item in value)
    if annotation in (None, types.NoneType):
        return value is None
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


class Registry(Generic[T]):
    """Names to factories of one kind of part, found on first use.

    The public modules of the `home` package are the built-in names: a module's stem is its name, and nothing is
    imported until that name is asked for. Other installed packages add names through the entry-point group that
    is called like `home`.

    Args:
        kind: what the parts are called in messages and configs, e.g. "vae".
        home: the package whose public modules hold the parts.
        modules: name to module, for a kind whose parts don't live one a file in `home`.
    """

    def __init__(self, kind: str, home: str, modules: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.home = home
        self._explicit = modules
        self._entries: dict[str, Callable[..., T]] = {}
        self._aliases: dict[str, str] = {}

    def register(self, name: str, *, aliases: Sequence[str] = ()) -> Callable[[F], F]:
        """Decorate a class or a function: it becomes the part called `name`.

        Raises:
            RegistryError: the name or an alias is taken; the holder is named.
        """

        def add(factory: F) -> F:
            for label in (name, *aliases):
                holder = self._entries.get(self._aliases.get(label, label))
                if holder is not None and _origin(holder) != _origin(factory):
                    raise RegistryError(f"{self.kind} {label!r} is already registered by {_origin(holder)}")
            for parameter in _knob_parameters(factory):
                if parameter.default is parameter.empty:
                    raise RegistryError(f"{self.kind} {name!r}: knob {parameter.name!r} needs a default")
            self._entries[name] = factory
            self._aliases.update(dict.fromkeys(aliases, name))
            return factory

        return add

    def names(self, pattern: str = "*") -> list[str]:
        """All names that match a shell pattern, sorted; imports no part."""
        every = {*self._modules(), *self._plugins(), *self._entries}
        return sorted(name for name in every if fnmatch.fnmatchcase(name, pattern))

    def get(self, name: str) -> Callable[..., T]:
        """The factory called `name`.

        Raises:
            RegistryError: no such name (the nearest is given), or its optional package is not installed.
        """
        if name not in self._entries and name not in self._aliases:
            self._load(name)
        return self._entries[self._aliases.get(name, name)]

    def build(self, name: str, *wiring: Any, **knobs: Any) -> T:
        """Call the factory `name` with wiring from its parent and knobs from a config, both checked first."""
        factory = self.get(name)
        given = set(inspect.signature(factory).parameters) - {knob.name for knob in self.knobs(name)}
        self.check(name, {key: value for key, value in knobs.items() if key not in given})
        return factory(*wiring, **knobs)

    def check(self, name: str, knobs: Mapping[str, Any]) -> None:
        """Refuse knobs that the part doesn't have and values of another type than it declares."""
        known = {knob.name: knob for knob in self.knobs(name)}
        for key, value in knobs.items():
            if key not in known:
                raise RegistryError(f"{self.kind} {name!r} has no knob {key!r}: {nearest(key, known)}")
            if not fits(value, known[key].type):
                expected = _type_name(known[key].type)
                raise RegistryError(f"{self.kind} {name!r}: {key}={value!r} is not of type {expected}")

    def knobs(self, name: str) -> tuple[Knob, ...]:
        """The keyword-only parameters of the part, with types and defaults."""
        factory = self.get(name)
        hints = typing.get_type_hints(factory.__init__ if isinstance(factory, type) else factory)
        return tuple(Knob(p.name, hints.get(p.name, Any), p.default) for p in _knob_parameters(factory))

    def describe(self, name: str) -> Description:
        """First docstring line, wiring, knobs with defaults, and where the part comes from."""
        factory = self.get(name)
        wiring = [p.name for p in inspect.signature(factory).parameters.values() if p.kind != p.KEYWORD_ONLY]
        name = self._aliases.get(name, name)
        summary = (inspect.getdoc(factory) or "").split("\n")[0]
        return Description(self.kind, name, summary, tuple(wiring), self.knobs(name), _origin(factory))

    def summary(self, name: str) -> str:
        """First line of the docstring of the module that holds `name`, read from its source without importing it."""
        module = self._modules().get(name) or (self._plugins()[name].module if name in self._plugins() else None)
        spec = importlib.util.find_spec(module) if module else None
        if spec is None or spec.origin is None:
            return ""
        return (ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or "").split("\n")[0]

    def _modules(self) -> dict[str, str]:
        if self._explicit is not None:
            return dict(self._explicit)
        found = pkgutil.iter_modules(importlib.import_module(self.home).__path__)
        return {module.name: f"{self.home}.{module.name}" for module in found if not module.name.startswith("_")}

    def _plugins(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {point.name: point for point in importlib.metadata.entry_points(group=self.home)}

    def _load(self, name: str) -> None:
        modules, plugins = self._modules(), self._plugins()
        if name in modules and name in plugins:
            raise RegistryError(f"{self.kind} {name!r} is in {modules[name]} and in the plugin {plugins[name].value}")
        try:
            if name in modules:
                importlib.import_module(modules[name])
            elif name in plugins:
                loaded = plugins[name].load()
                if name not in self._entries and callable(loaded):
                    self.register(name)(loaded)
            else:
                self._load_alias(name)
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package == self.home.split(".")[0]:
                raise
            raise RegistryError(f"{self.kind} {name!r} needs {package}: pip install {package}") from error
        if name not in self._entries and name not in self._aliases:
            raise RegistryError(f"{modules.get(name, name)} must register {self.kind} {name!r} and doesn't")

    def _load_alias(self, alias: str) -> None:
        # an alias is known only once its module is loaded; a part that can't load here can't be the answer
        for name in self.names():
            try:
                self.get(name)
            except RegistryError:
                continue
            if alias in self._aliases:
                return
        raise RegistryError(f"no {self.kind} is called {alias!r}: {nearest(alias, self.names())}")


def _knob_parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(factory).parameters.values() if p.kind == p.KEYWORD_ONLY]


def _origin(factory: Callable[..., Any]) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")

"""Typed registries: names to factories, each with a schema read from its signature."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import fnmatch
import functools
import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from videogen._signature import Knob, fits, knob_parameters, knobs_of, type_name

__all__ = ["Description", "Knob", "Registry", "RegistryError", "fits", "nearest"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class RegistryError(ValueError):
    """A name, a knob or a value that no registered part answers to."""


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


class Registry(Generic[T]):
    """Names to factories of one kind of part, found on first use.

    The public modules of the `home` package are the built-in names: a module's stem is its name, and nothing is
    imported until that name is asked for; packages in there are homes of other kinds. Other installed packages add
    names through the entry-point group that is called like `home`.

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
        self._missing: dict[str, str] = {}

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
            for alias in aliases:
                # a part that isn't loaded yet holds no entry that the loop above would find
                if holders := self._holders(alias):
                    raise RegistryError(f"{self.kind} {name!r}: the alias {alias!r} is the name of {holders[0]}")
            for parameter in knob_parameters(factory):
                if parameter.default is parameter.empty:
                    raise RegistryError(f"{self.kind} {name!r}: knob {parameter.name!r} needs a default")
            self._entries[name] = factory
            self._aliases.update(dict.fromkeys(aliases, name))
            return factory

        return add

    def names(self, pattern: str = "*") -> list[str]:
        """All names that match a shell pattern, sorted; imports no part."""
        every = {*self._modules(), *self._plugins, *self._entries}
        return sorted(name for name in every if fnmatch.fnmatchcase(name, pattern))

    def get(self, name: str) -> Callable[..., T]:
        """The factory called `name`.

        Raises:
            RegistryError: no such name (the nearest is given), two parts claim it, or it needs a missing package.
        """
        holders = self._holders(name)
        if len(holders) > 1:
            raise RegistryError(
                f"{self.kind} {name!r} is claimed by {' and by '.join(holders)}: uninstall or rename one"
            )
        if name not in self._entries and name not in self._aliases:
            self._load(name)
        return self._entries[self._aliases.get(name, name)]

    def build(self, name: str, /, *wiring: Any, **knobs: Any) -> T:
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
                expected = type_name(known[key].type)
                raise RegistryError(f"{self.kind} {name!r}: {key}={value!r} is not of type {expected}")

    def knobs(self, name: str) -> tuple[Knob, ...]:
        """The keyword-only parameters of the part, with types and defaults."""
        return knobs_of(self.get(name))

    def describe(self, name: str) -> Description:
        """First docstring line, wiring, knobs with defaults, and where the part comes from."""
        factory = self.get(name)
        wiring = [p.name for p in inspect.signature(factory).parameters.values() if p.kind != p.KEYWORD_ONLY]
        name = self._aliases.get(name, name)
        summary = (inspect.getdoc(factory) or "").split("\n")[0]
        return Description(self.kind, name, summary, tuple(wiring), self.knobs(name), _origin(factory))

    def summary(self, name: str) -> str:
        """First line of the docstring of the module that holds `name`, read from its source without importing it."""
        if name not in self._modules() and name not in self._plugins:
            return self.describe(name).summary
        module = self._modules().get(name) or self._plugins[name][0].module
        try:
            spec = importlib.util.find_spec(module)
            loader = spec.loader if spec is not None else None
            source = loader.get_source(module) if isinstance(loader, importlib.abc.InspectLoader) else None
            return (ast.get_docstring(ast.parse(source or "")) or "").split("\n")[0]
        except (ImportError, SyntaxError):
            # one broken plugin must not take the whole list down; `get` says what is wrong with it
            return ""

    def _modules(self) -> dict[str, str]:
        if self._explicit is not None:
            return dict(self._explicit)
        found = pkgutil.iter_modules(importlib.import_module(self.home).__path__)
        own = [module.name for module in found if not module.ispkg and not module.name.startswith("_")]
        return {name: f"{self.home}.{name}" for name in own}

    @functools.cached_property
    def _plugins(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        found: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for point in importlib.metadata.entry_points(group=self.home):
            found.setdefault(point.name, []).append(point)
        return found

    def _holders(self, name: str) -> list[str]:
        """The module and the plugins that a name stands for."""
        module = self._modules().get(name)
        return [*([module] if module else []), *(f"plugin {point.value}" for point in self._plugins.get(name, []))]

    def _load(self, name: str) -> None:
        if name in self._missing:
            raise RegistryError(self._missing[name])
        modules, plugins = self._modules(), self._plugins
        if name not in modules and name not in plugins:
            return self._load_alias(name)
        module = modules.get(name) or plugins[name][0].module
        try:
            part = importlib.import_module(module) if name in modules else plugins[name][0].load()
        except ModuleNotFoundError as error:
            package = (error.name or "").split(".")[0]
            if package in (self.home.split(".")[0], module.split(".")[0]):
                raise
            self._missing[name] = f"{self.kind} {name!r} needs {package}: pip install {_requirement(module, package)}"
            raise RegistryError(self._missing[name]) from error
        if name not in self._entries and name in plugins and callable(part):
            self.register(name)(part)
        if name not in self._entries:
            raise RegistryError(f"{module} must register {self.kind} {name!r} and doesn't")

    def _load_alias(self, alias: str) -> None:
        # an alias is known only once its module is loaded; a part that can't load here can't be the answer
        broken = {}
        for name in self.names():
            try:
                self.get(name)
            except Exception as error:
                broken[name] = error
            if alias in self._aliases:
                return
        unseen = f" ({', '.join(broken)} can't be loaded here, so their aliases are unknown)" if broken else ""
        raise RegistryError(f"no {self.kind} is called {alias!r}: {nearest(alias, self.names())}{unseen}")


def _requirement(module: str, package: str) -> str:
    """What to install for a missing package: the smallest extra of the module's distribution that has it, or itself."""
    owners = importlib.metadata.packages_distributions().get(module.split(".")[0], [])
    extras: dict[str, list[str]] = {}
    for requirement in (line for owner in owners for line in importlib.metadata.requires(owner) or []):
        extra = re.search(r"""extra\s*==\s*["']([^"']+)""", requirement)
        if extra:
            extras.setdefault(extra[1], []).append(re.split(r"[^\w.-]", requirement)[0].lower().replace("-", "_"))
    bringing = [name for name, packages in extras.items() if package.lower() in packages]
    if not bringing:
        return package
    return f"'{owners[0]}[{min(bringing, key=lambda name: len(extras[name]))}]'"


def _origin(factory: Callable[..., Any]) -> str:
    return f"{factory.__module__}.{factory.__qualname__}"

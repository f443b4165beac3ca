"""The schema of a part, read from the signature of its factory."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Knob:
    """One keyword-only parameter of a part: what a config may set."""

    name: str
    type: Any
    default: Any


def knob_parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """The keyword-only parameters of a factory, unevaluated."""
    return [p for p in inspect.signature(factory).parameters.values() if p.kind == p.KEYWORD_ONLY]


def knobs_of(factory: Callable[..., Any]) -> tuple[Knob, ...]:
    """The keyword-only parameters of a factory, with types and defaults.

    Raises:
        NameError: the type of a knob is not importable where the factory is defined.
    """
    # mypy fears a subclass whose __init__ differs; it is just the one of this class that is wanted
    function = inspect.unwrap(factory.__init__ if isinstance(factory, type) else factory)  # type: ignore[misc]
    parameters = knob_parameters(factory)
    annotated = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    # wiring is left out: its types are often imported for the type checker alone, and can't be evaluated
    holder = types.SimpleNamespace(__annotations__=annotated)
    hints = typing.get_type_hints(holder, getattr(function, "__globals__", None))
    return tuple(Knob(p.name, hints.get(p.name, Any), p.default) for p in parameters)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value (number, string, sequence) is of an annotated type; an int is a float, a bool is no int."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True
    if origin is typing.Literal:
        # True == 1 == 1.0, so equality alone would let them stand for each other
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin in (list, tuple, collections.abc.Sequence):
        return _sequence_fits(value, arguments, fixed=origin is tuple and Ellipsis not in arguments)
    if annotation in (None, types.NoneType):
        return value is None
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or annotation)


def _sequence_fits(value: Any, arguments: tuple[Any, ...], fixed: bool) -> bool:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        return False
    if fixed:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, arguments[0]) for item in value)


def type_name(annotation: Any) -> str:
    """An annotation as a person would write it."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")

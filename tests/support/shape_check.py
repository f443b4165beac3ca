"""A type checker for jaxtyping's import hook that looks at shapes alone."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import beartype
from jaxtyping import AbstractArray


def shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments and the result that are annotated with a shape; mypy has checked all other types.

    The rest can't be checked at run time: the contracts are Protocols, which isinstance doesn't take, and an int is
    no float to beartype.
    """
    hints = function.__annotations__
    function.__annotations__ = {name: hint if has_shape(hint) else Any for name, hint in hints.items()}
    return beartype.beartype(function)


def has_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(has_shape, typing.get_args(hint)))

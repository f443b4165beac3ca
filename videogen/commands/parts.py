"""`videogen list` and `videogen show`: the parts there are, and what one of them can be told."""

from __future__ import annotations

from videogen._signature import type_name
from videogen.kinds import KINDS, registry
from videogen.registry import RegistryError, nearest


def list_parts(kind: str | None = None, pattern: str = "*") -> str:
    """The names of each kind with a line about each; loads no part.

    Args:
        kind: one kind alone; a word with a wildcard in it is a pattern for all kinds.
        pattern: a shell pattern of names.

    Raises:
        RegistryError: no such kind, or no name that matches.
    """
    if kind is not None and any(letter in kind for letter in "*?["):
        return list_parts(None, kind)
    chosen = list(KINDS) if kind is None else [registry(kind).kind]
    blocks = []
    for name in chosen:
        parts = registry(name)
        names = parts.names(pattern)
        width = max(map(len, names), default=0)
        if names:
            lines = [f"  {part:{width}}  {parts.summary(part)}".rstrip() for part in names]
            blocks.append("\n".join([name, *lines]))
    if not blocks:
        every = [name for kind_ in chosen for name in registry(kind_).names()]
        raise RegistryError(f"no {kind or 'part'} matches {pattern!r}: {nearest(pattern, every)}")
    return "\n\n".join(blocks)


def show_part(kind: str, name: str) -> str:
    """One part: what it is, where it comes from, what its parent gives it, what a config may set.

    Raises:
        RegistryError: no such kind or name, or the part needs a missing package.
    """
    told = registry(kind).describe(name)
    knobs = [(knob.name, type_name(knob.type), f"{knob.default!r}") for knob in told.knobs]
    widths = [max((len(row[column]) for row in knobs), default=0) for column in (0, 1)]
    rows = [f"    {key:{widths[0]}}  {kind_:{widths[1]}}  {default}".rstrip() for key, kind_, default in knobs]
    return "\n".join(
        [
            f"{told.kind} {told.name}",
            f"  {told.summary}",
            f"  from {told.origin}",
            f"  given by its parent: {', '.join(told.wiring) or 'nothing'}",
            "  knobs, with type and default:" if rows else "  no knobs",
            *rows,
        ]
    )

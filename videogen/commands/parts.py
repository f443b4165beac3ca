"""`videogen list` and `videogen show`: the parts there are, and what one of them can be told."""

from __future__ import annotations

from collections.abc import Mapping

from videogen._signature import type_name
from videogen.kinds import KINDS, registry
from videogen.registry import RegistryError, nearest


def list_parts(kind: str | None = None, pattern: str = "*", *, markdown: bool = False) -> str:
    """The names of each kind with a line about each; loads no part.

    Args:
        kind: one kind alone, or all kinds of parts that a part is made of, as "dit"; a word with a wildcard in it is a
            pattern for all kinds.
        pattern: a shell pattern of names.
        markdown: a table instead of plain text.

    Raises:
        RegistryError: no such kind, or no name that matches.
    """
    if kind is not None and any(letter in kind for letter in "*?["):
        return list_parts(None, kind, markdown=markdown)
    within = [name for name in KINDS if name.startswith(f"{kind}/")]
    chosen = [registry(name) for name in within or ([kind] if kind else KINDS)]
    told = {each.kind: {name: each.summary(name) for name in each.names(pattern)} for each in chosen}
    if not any(told.values()):
        every = [name for each in chosen for name in each.names()]
        raise RegistryError(f"no {kind or 'part'} matches {pattern!r}: {nearest(pattern, every)}")
    if markdown:
        rows = [f"| {each} | `{name}` | {line} |" for each, names in told.items() for name, line in names.items()]
        return "\n".join(["| kind | name | what it is |", "|---|---|---|", *rows])
    return "\n\n".join("\n".join([each, *_columns(names)]) for each, names in told.items() if names)


def _columns(names: Mapping[str, str]) -> list[str]:
    width = max(map(len, names))
    return [f"  {name:{width}}  {line}".rstrip() for name, line in names.items()]


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

"""Which block each layer is, as a pattern: `[full3d*2, [skip(mode=single), skip(mode=group)]*14, full3d*2]`."""

from __future__ import annotations

import ast
import re
from typing import Any, NamedTuple

TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>\d+)|(?P<sign>[\[\](),*=])|(?P<end>$))")
# what stands between = and the next comma or bracket of the same depth
VALUE = re.compile(r"\s*((?:\([^()]*\)|\[[^\[\]]*\]|\"[^\"]*\"|'[^']*'|[^,()\[\]])+)")


class Layer(NamedTuple):
    """One layer: a block's registered name and its knobs."""

    name: str
    knobs: dict[str, Any]


def layers(schedule: str) -> list[Layer]:
    """The layers of a schedule in order.

    A schedule is a list in brackets; an item is a block's name, with knobs in parentheses if any, or a list, and `*n`
    behind it repeats it.

    Raises:
        ValueError: the text is no schedule; what was read and what was expected is named.
    """
    reader = _Reader(schedule)
    found = reader.items() if reader.take("[") else reader.item()
    while reader.take("*"):
        found = found * reader.number()
    if not reader.take(""):
        raise reader.error("the end")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    def take(self, sign: str) -> bool:
        """Whether that stands here; if it does, it is passed."""
        found = TOKEN.match(self.text, self.place)
        if found is None or found[0].strip() != sign or (not sign and found["end"] is None):
            return False
        self.place = found.end()
        return True

    def error(self, wanted: str) -> ValueError:
        rest = self.text[self.place :].strip() or "the end"
        return ValueError(f"schedule {self.text!r}: expected {wanted} at {rest[:20]!r}")

    def word(self, kind: str, wanted: str) -> str:
        found = TOKEN.match(self.text, self.place)
        if found is None or found[kind] is None:
            raise self.error(wanted)
        self.place = found.end()
        return found[kind]

    def number(self) -> int:
        return int(self.word("number", "a number of repeats"))

    def items(self) -> list[Layer]:
        """Behind a `[`, up to its `]`."""
        found: list[Layer] = []
        while True:
            found += self.repeated()
            if self.take("]"):
                return found
            if not self.take(","):
                raise self.error(", or ]")

    def repeated(self) -> list[Layer]:
        found = self.items() if self.take("[") else self.item()
        while self.take("*"):
            found = found * self.number()
        return found

    def item(self) -> list[Layer]:
        name = self.word("name", "a block's name")
        knobs: dict[str, Any] = {}
        if self.take("(") and not self.take(")"):
            while True:
                key = self.word("name", "a knob's name")
                if not self.take("="):
                    raise self.error("=")
                knobs[key] = self.value()
                if self.take(")"):
                    break
                if not self.take(","):
                    raise self.error(", or )")
        return [Layer(name, knobs)]

    def value(self) -> Any:
        found = VALUE.match(self.text, self.place)
        if found is None:
            raise self.error("a value")
        self.place = found.end()
        said = found[1].strip()
        try:
            # numbers, tuples, quoted texts; True and False as Python and as YAML write them
            return ast.literal_eval({"true": "True", "false": "False", "null": "None"}.get(said, said))
        except (ValueError, SyntaxError):
            return said

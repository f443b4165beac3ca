"""Every registered part of every kind: it loads, says what it is, and its knobs are of the types that they declare."""

from __future__ import annotations

from typing import Any

import pytest

from videogen.kinds import KINDS, registry
from videogen.registry import RegistryError, fits

PARTS = [(kind, name) for kind in KINDS for name in registry(kind).names()]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_part_is_described(kind: str, name: str) -> None:
    parts = registry(kind)
    told = parts.describe(name)
    assert told.summary, f"{told.origin} needs a docstring"
    assert parts.summary(name), f"the module of {told.origin} needs a docstring"
    for knob in told.knobs:
        assert knob.type is not Any, f"{told.origin}: knob {knob.name!r} needs a type, the config is checked against it"
        assert fits(knob.default, knob.type), f"{told.origin}: {knob.name}={knob.default!r} is not a {knob.type}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_part(kind: str) -> None:
    assert registry(kind).names()


@pytest.mark.parametrize("spelling", ["dit/block", "dit.block", "block"])
def test_a_kind_answers_to_its_path_and_to_its_last_word(spelling: str) -> None:
    assert registry(spelling) is registry("dit/block")


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(RegistryError, match=r"'schedular': did you mean 'scheduler'\?"):
        registry("schedular")
